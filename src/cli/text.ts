import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';

/** Numbers, names and tables as a person reads them in a terminal. */

/**
 * A name or a sentence from outside, safe for a terminal: control characters become `\n`, `\x1b` …, an escaped
 * byte (model/pathname.ts) becomes `\xff`.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|\p{Cs}|[\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (unit) => {
    const code = unit.charCodeAt(0);
    if (code === 0x0a) return '\\n';
    if (code === 0x09) return '\\t';
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
  });
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.95 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** 1234567 → `1,234,567`, whatever the locale: scripts and people read the same. */
export function countText(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',');
}

export function filesText(count: number): string {
  return `${countText(count)} ${count === 1 ? 'file' : 'files'}`;
}

export function rateText(perSecond: number): string {
  return perSecond >= 100 ? countText(perSecond) : perSecond.toFixed(1);
}

/** `0.4 s`, `12 s`, `3 min 04 s`, `2 h 05 min`. */
export function durationText(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  const minutes = Math.floor(whole / 60);
  return `${countText(Math.floor(minutes / 60))} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Columns with two spaces between, as wide as their widest cell; numbers stand at the right. */
export function tableText(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string[] {
  const cells = [
    header,
    ...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? countText(cell) : cell))),
  ];
  const right = header.map(
    (_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'),
  );
  const widths = header.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  return cells.map((row) =>
    row
      .map((cell, column) =>
        right[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}

const SECONDS_PER_UNIT: Record<string, number> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** `90`, `90s`, `1.5m`, `2h`, `1d` → seconds. @throws {CliError} usage, for anything else and for nothing above 0 */
export function parseSeconds(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text.trim());
  const seconds = match ? Number(match[1]) * (SECONDS_PER_UNIT[match[2] ?? ''] ?? Number.NaN) : Number.NaN;
  if (!(seconds > 0) || !Number.isFinite(seconds)) {
    throw new CliError(
      `${option} takes seconds, or a time such as 90s, 15m, 2h or 1d, not "${text}".`,
      EXIT.usage,
    );
  }
  return seconds;
}

/** `1000`, `50M`, `1.5G` → bytes, by powers of 1024. @throws {CliError} usage, for anything else and for nothing above 0 */
export function parseBytes(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?(?:\/s)?$/i.exec(text.trim());
  const power = ['', 'K', 'M', 'G', 'T'].indexOf((match?.[2] ?? '').toUpperCase());
  const bytes = match ? Math.round(Number(match[1]) * 1024 ** power) : Number.NaN;
  if (!(bytes > 0) || !Number.isSafeInteger(bytes)) {
    throw new CliError(`${option} takes bytes such as 500K, 50M or 1.5G, not "${text}".`, EXIT.usage);
  }
  return bytes;
}
