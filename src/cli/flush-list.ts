import { z } from 'zod';
import type { FlushRequest } from '../model/flush-request.js';
import { cacheSchema } from '../model/job.js';
import { PathList } from '../model/path-list.js';
import { pathText } from '../model/pathname.js';
import { CliError } from './cli-error.js';
import { withQuery } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { LocalPaths, type ServicePath } from './local-paths.js';
import { PathSpool } from './path-spool.js';
import { type Answer, parseBody, type ServiceClient } from './service-client.js';

/** What a submission asks for apart from its files. */
export type FlushWishes = Pick<
  FlushRequest,
  | 'pathsAre'
  | 'dialect'
  | 'mode'
  | 'fileTimeoutSeconds'
  | 'deadlineSeconds'
  | 'webhook'
  | 'webhookEvents'
  | 'conflict'
  | 'labels'
>;

interface Directory {
  path: string;
  include?: string[];
  exclude?: string[];
}

/** The files of one export: one job. */
export interface ListPart {
  cache: string;
  export: string;
  spool: PathSpool;
  directories: Directory[];
}

/** More exports in one list than this are rather a mistake, and each may hold a file open. */
const MAX_PARTS = 64;
/** How many local paths are looked up at a time: a network file system answers them side by side. */
const LOOKUPS = 64;
/** Files and directories in one request must fit into a JSON body. */
const MAX_JSON_PATHS = 100_000;
const MAX_JSON_BYTES = 8 * 1024 * 1024;
/** Reading a list of millions into the store takes its time after the last byte. */
const ACCEPT_TIMEOUT_MS = 300_000;

export interface ListOptions {
  cache?: string;
  export?: string;
  include?: string[];
  exclude?: string[];
}

type Place = Pick<ServicePath, 'cache' | 'export'>;

/** Sorts what is to be written back by cache and export, for local paths by asking the mount table. */
export async function openList(
  context: CliContext,
  client: ServiceClient,
  options: ListOptions,
): Promise<FlushList> {
  if (options.cache !== undefined && options.export !== undefined) {
    return new FlushList(options, { cache: options.cache, export: options.export });
  }
  const answer = await client.request('GET', '/v1/caches');
  const { items } = parseBody(z.object({ items: z.array(cacheSchema) }), answer.body);
  const procFolder = context.procFolder ?? '/proc/self';
  return new FlushList(options, new LocalPaths(procFolder, items, options.cache ?? null));
}

export class FlushList {
  readonly #parts = new Map<string, ListPart>();
  readonly #options: ListOptions;
  readonly #where: Place | LocalPaths;

  /** @param where the place of all paths, or who finds it for each */
  constructor(options: ListOptions, where: Place | LocalPaths) {
    this.#options = options;
    this.#where = where;
  }

  /** Takes files and directories in. @throws {CliError} usage, for a path that the service could not be told of */
  async take(files: AsyncIterable<Uint8Array[]>, directories: readonly Uint8Array[]): Promise<void> {
    for await (const paths of files) await this.#addFiles(paths);
    const { include, exclude } = this.#options;
    const globs = { ...(include && { include }), ...(exclude && { exclude }) };
    for (const found of await this.#find(directories, 'directory')) {
      this.#part(found).directories.push({ path: pathText(found.path), ...globs });
    }
    const isEmpty = [...this.parts()].every(
      ({ spool, directories }) => spool.paths + directories.length === 0,
    );
    if (isEmpty) throw new CliError('The list names no file.', EXIT.usage);
  }

  parts(): Iterable<ListPart> {
    return this.#parts.values();
  }

  async close(): Promise<void> {
    for (const { spool } of this.#parts.values()) await spool.close();
  }

  async #addFiles(paths: readonly Uint8Array[]): Promise<void> {
    if (!(this.#where instanceof LocalPaths)) {
      const { spool } = this.#part(this.#where);
      for (const path of paths) await spool.add(path);
      return;
    }
    for (let i = 0; i < paths.length; i += LOOKUPS) {
      for (const found of await this.#find(paths.slice(i, i + LOOKUPS), 'file')) {
        await this.#part(found).spool.add(found.path);
      }
    }
  }

  async #find(paths: readonly Uint8Array[], kind: 'file' | 'directory'): Promise<ServicePath[]> {
    const where = this.#where;
    return where instanceof LocalPaths
      ? where.find(paths, kind)
      : paths.map((path) => ({ cache: where.cache, export: where.export, path }));
  }

  #part(place: Place): ListPart {
    const key = `${place.cache}\0${place.export}`;
    const known = this.#parts.get(key);
    if (known) return known;
    if (this.#parts.size >= MAX_PARTS) {
      throw new CliError(
        `The files lie on more than ${MAX_PARTS} exports. Submit them export by export.`,
        EXIT.usage,
      );
    }
    const part: ListPart = {
      cache: place.cache,
      export: place.export,
      spool: new PathSpool(),
      directories: [],
    };
    this.#parts.set(key, part);
    return part;
  }
}

/** Posts one list: as it is, streamed, or with directories as JSON, which holds both. */
export async function sendList(
  client: ServiceClient,
  part: ListPart,
  wishes: FlushWishes,
  idempotencyKey: string,
): Promise<Answer> {
  const headers = { 'idempotency-key': idempotencyKey };
  const { cache, spool, directories } = part;
  const { labels, ...rest } = wishes;
  if (directories.length === 0) {
    const label = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
    const path = withQuery('/v1/flushes', { cache, export: part.export, delimiter: 'nul', ...rest, label });
    return client.request('POST', path, {
      headers,
      content: spool.content(),
      timeoutMs: ACCEPT_TIMEOUT_MS,
    });
  }
  if (spool.paths > MAX_JSON_PATHS || spool.bytes > MAX_JSON_BYTES) {
    throw new CliError(
      'A list this long cannot be sent together with --directory. Submit the list and the directories as two jobs.',
      EXIT.usage,
    );
  }
  const files: string[] = [];
  const list = new PathList({ delimiter: 'nul', maxPathBytes: MAX_JSON_BYTES });
  for await (const chunk of spool.content().chunks()) {
    for (const path of list.push(chunk)) files.push(pathText(path));
  }
  const json = {
    cache,
    export: part.export,
    ...(files.length > 0 && { files }),
    directories,
    ...rest,
    labels,
  };
  return client.request('POST', '/v1/flushes', { headers, json, timeoutMs: ACCEPT_TIMEOUT_MS });
}
