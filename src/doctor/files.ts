import { open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Finding } from '../nfs/examination.js';
import { fail, ok, warn } from './finding.js';

/** Who else may read or write what decides who may do what. */

const OTHERS_WRITE = 0o002;
const GROUP_WRITES = 0o020;
const OTHERS_READ = 0o004;
const STICKY = 0o1000;

/**
 * Looks at a file that the service reads, as the user that calls.
 * @param what it is, as the subject of a sentence
 * @param secret it holds something that nobody else may know
 * @returns no finding above `ok` if it can be read and only its owner can change it
 */
export async function examineFile(path: string, what: string, secret: boolean): Promise<Finding[]> {
  try {
    await (await open(path)).close();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [fail(`${what}, ${path}, is not there. Make it, or correct its path.`)];
    const why = code === 'EACCES' ? `this user (uid ${process.getuid?.()}) may not read it` : message;
    return [
      fail(`${what}, ${path}, cannot be read: ${why}. Run the service as its owner, or give it read access.`),
    ];
  }
  const findings: Finding[] = [];
  const { mode } = await stat(path);
  const shown = `mode ${(mode & 0o7777).toString(8).padStart(4, '0')}`;
  if (mode & (OTHERS_WRITE | GROUP_WRITES)) {
    findings.push(
      fail(
        `${what}, ${path}, can be changed by others (${shown}), who could make themselves anybody. chmod go-w it.`,
      ),
    );
  }
  if (secret && mode & OTHERS_READ) {
    findings.push(warn(`${what}, ${path}, can be read by every user of this host (${shown}). chmod o-r it.`));
  }
  const folder = await stat(dirname(path));
  if (folder.mode & OTHERS_WRITE && !(folder.mode & STICKY)) {
    findings.push(
      fail(
        `${what}, ${path}, lies in a folder in which everybody may replace it. chmod o-w ${dirname(path)}.`,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok(`${what}, ${path}, can be read, and changed by its owner only (${shown})`)];
}
