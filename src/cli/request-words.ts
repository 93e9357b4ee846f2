import { printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';
import type { SubmitOptions } from './submit-options.js';

/**
 * What a batch job asks for in a comment or a directive of its script, written by any user and read by the hook of a
 * scheduler that has other rights: `cache=scratch export=/exp1 directory=/run42 include=*.h5 file="/a file"`. Only what
 * is to be flushed can be said, nothing of how the service is reached.
 */

const WORD = /\s*(?<name>[a-z]+)=(?<value>(?:"[^"]*"|[^\s"])+)(?=\s|$)/y;
const ONCE = ['cache', 'export'] as const;
const OFTEN = ['file', 'directory', 'include', 'exclude'] as const;

export interface RequestWords {
  files: string[];
  options: Pick<SubmitOptions, 'cache' | 'export' | 'directory' | 'include' | 'exclude'>;
}

/** @throws {CliError} usage */
export function parseRequestWords(text: string): RequestWords {
  const found = new Map<string, string[]>();
  let at = 0;
  while (at < text.trimEnd().length) {
    WORD.lastIndex = at;
    const { name = '', value = '' } = WORD.exec(text)?.groups ?? {};
    const names: readonly string[] = [...ONCE, ...OFTEN];
    if (!names.includes(name)) {
      throw new CliError(
        `What the batch job asks for is not understood from "${printable(text.slice(at).trim().slice(0, 80))}": it takes ${names.join('=, ')}=, separated by blanks, values with blanks in double quotes.`,
        EXIT.usage,
      );
    }
    found.set(name, [...(found.get(name) ?? []), value.replaceAll('"', '')]);
    at = WORD.lastIndex;
  }
  for (const name of ONCE) {
    if (found.get(name)?.length !== 1) {
      throw new CliError(`What a batch job asks for names ${name}= once.`, EXIT.usage);
    }
  }
  const [directory, include, exclude] = ['directory', 'include', 'exclude'].map((name) => found.get(name));
  return {
    files: found.get('file') ?? [],
    options: {
      cache: found.get('cache')?.[0],
      export: found.get('export')?.[0],
      ...(directory && { directory }),
      ...(include && { include }),
      ...(exclude && { exclude }),
    },
  };
}
