import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { EmbeddedRedisError } from './embedded-redis-error.js';

export interface ServerSearch {
  /** Absolute path of the program, or null: searched in `searchPath`. */
  serverPath: string | null;
  /** Folders, as in $PATH. */
  searchPath: string;
}

/** The program of a private Redis. @throws {EmbeddedRedisError} NOT_INSTALLED, with what to install */
export async function findServer({ serverPath, searchPath }: ServerSearch): Promise<string> {
  if (serverPath !== null) {
    if (await isExecutable(serverPath)) return serverPath;
    throw new EmbeddedRedisError('NOT_INSTALLED', `${serverPath} is not there, or is no program.`);
  }
  const folders = [
    ...searchPath.split(delimiter),
    '/usr/local/bin',
    '/usr/bin',
    '/usr/sbin',
    '/opt/homebrew/bin',
  ];
  for (const name of ['redis-server', 'valkey-server']) {
    for (const folder of folders) {
      const candidate = join(folder, name);
      if (folder.startsWith('/') && (await isExecutable(candidate))) return candidate;
    }
  }
  throw new EmbeddedRedisError(
    'NOT_INSTALLED',
    'There is no redis-server and no valkey-server on this machine. Install one of them: apt install redis-server (Debian, Ubuntu), dnf install redis or valkey (RHEL, Rocky, Fedora), zypper install redis or valkey (SUSE), apk add redis (Alpine), brew install redis (macOS). Or give a Redis by its URL.',
  );
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
