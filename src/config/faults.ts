import { z } from 'zod';
import { configSchema } from './schema.js';

/** Says, one fault a line, which keys or variables are wrong and what they should be. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration is not valid:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** What is wrong with a key, and where its value came from if not from the file: `origin` has the variable or option. */
export function issueSentences(issue: z.core.$ZodIssue, origin: ReadonlyMap<string, string>): string[] {
  const key = keyText(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(configSchema, issue.path);
    return issue.keys.map(
      (name) => `${key === '' ? name : `${key}.${name}`}: there is no such key.${suggestion(name, known)}`,
    );
  }
  const source = origin.get(key);
  const where = source === undefined ? key : `${source} (${key})`;
  const message = issue.message.replace(/^Invalid (input|option): /, '').replace(/^Too (small|big): /, '');
  return [`${where}: ${message.charAt(0).toLowerCase()}${message.slice(1)}`];
}

function keyText(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
}

/** The keys that the schema has at a path: its way through defaults and arrays is the one zod itself took. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  let at: z.core.$ZodType = schema;
  for (const part of path) {
    at = unwrap(at);
    if (at instanceof z.ZodObject) at = at.shape[String(part)] as z.core.$ZodType;
    else if (at instanceof z.ZodArray) at = at.element;
  }
  at = unwrap(at);
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  let at = schema;
  while (at instanceof z.ZodDefault || at instanceof z.ZodPrefault || at instanceof z.ZodNullable) {
    at = at.unwrap();
  }
  return at;
}

/** The known name that a wrong one is nearest to, as a sentence; all of them if none is near. */
export function suggestion(name: string, known: readonly string[]): string {
  const nearest = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  if (nearest === undefined) return '';
  if (nearest.distance <= Math.max(2, Math.floor(name.length / 3)))
    return ` Did you mean "${nearest.candidate}"?`;
  return ` Known: ${known.join(', ')}.`;
}

/** Levenshtein: insertions, deletions and replacements that make one word of the other. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
