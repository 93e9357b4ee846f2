import { countText } from '../model/text.js';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';

/** Tables as a person reads them in a terminal, and quantities as a person writes them. */

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
