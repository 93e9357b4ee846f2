import type { JobFile } from '../model/job.js';

/** RFC 4180, and safe to open in a spreadsheet. */

const COLUMNS = [
  'index',
  'path',
  'state',
  'outcome',
  'evidence',
  'attempts',
  'size',
  'mtime',
  'durationMs',
  'firstErrorCode',
  'firstErrorMessage',
  'lastErrorCode',
  'lastErrorPhase',
  'lastErrorNfsStatus',
  'lastErrorMessage',
];

export const CSV_HEADER = `${COLUMNS.join(',')}\r\n`;

/**
 * What a spreadsheet takes for a formula, also after cutting white space off or making wide letters narrow; and the
 * apostrophe that marks it as none, so that one apostrophe at the beginning can always be taken away again.
 */
const FORMULA = /^['=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

export function csvLine(file: JobFile): string {
  const { firstError, lastError } = file;
  const fields = [
    file.index,
    file.path,
    file.state,
    file.outcome,
    file.evidence,
    file.attempts,
    file.size,
    file.mtime,
    file.durationMs,
    firstError?.code,
    firstError?.message,
    lastError?.code,
    lastError?.phase,
    lastError?.nfsStatus,
    lastError?.message,
  ];
  return `${fields.map(field).join(',')}\r\n`;
}

function field(value: string | number | null | undefined): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const text = escaped(value);
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** UTF-8 has no lone surrogates: a byte that is no text is written as JSON writes it, `\udcff`. */
function escaped(text: string): string {
  if (text.isWellFormed()) return text;
  return text.replaceAll(/\p{Surrogate}/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`);
}
