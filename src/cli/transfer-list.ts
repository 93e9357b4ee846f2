import { basename } from 'node:path';
import { pathText } from '../model/pathname.js';
import type { WebhookEvent } from '../model/words.js';
import { CliError } from './cli-error.js';
import { withQuery } from './client-options.js';
import { EXIT } from './exit-codes.js';
import { PathSpool } from './path-spool.js';
import type { Answer, Content, ServiceClient } from './service-client.js';

/** What a transfer asks for apart from its files. */
export interface TransferWishes {
  node: string;
  bytesPerSecond: number | undefined;
  cpuPercent: number | undefined;
  verify: boolean;
  fileTimeoutSeconds: number | undefined;
  deadlineSeconds: number | undefined;
  webhook: string | undefined;
  webhookEvents: WebhookEvent[] | undefined;
  conflict: 'join' | undefined;
  labels: Record<string, string>;
}

export interface TransferDirectory {
  source: string;
  destination: string;
  include?: string[];
  exclude?: string[];
}

const TAB = 0x09;
const SLASH = 0x2f;
/** Files and directories in one request must fit into a JSON body. */
const MAX_JSON_BYTES = 3 * 1024 * 1024;
const ACCEPT_TIMEOUT_MS = 300_000;

/** Sources with their destinations, of any number, as lines of JSON. */
export class TransferList {
  readonly #spool = new PathSpool();
  readonly #folder: Buffer;
  /** A source of a list that waits for its destination. */
  #source: Uint8Array | null = null;

  /** @param folder what paths that are not absolute are relative to */
  constructor(folder: string) {
    this.#folder = Buffer.from(folder);
  }

  get files(): number {
    return this.#spool.paths;
  }

  /** A file that keeps its name in another directory. */
  async addInto(source: Uint8Array, directory: Uint8Array): Promise<void> {
    await this.#add(source, Buffer.concat([directory, Buffer.from('/'), nameOf(source)]));
  }

  /** A line of a list: source, TAB, destination. @throws {CliError} usage */
  async addLine(line: Uint8Array): Promise<void> {
    const tab = line.indexOf(TAB);
    if (tab < 0) {
      const shown = JSON.stringify(pathText(line.subarray(0, 200)));
      throw new CliError(
        `The line ${shown} has no TAB: with --transfer a list holds SOURCE<TAB>DESTINATION, or with -0 both one after the other. --to names one directory for all.`,
        EXIT.usage,
      );
    }
    await this.#add(line.subarray(0, tab), line.subarray(tab + 1));
  }

  /** An entry of a list that has sources and destinations in turn. */
  async addInTurn(entry: Uint8Array): Promise<void> {
    const source = this.#source;
    this.#source = source === null ? Buffer.from(entry) : null;
    if (source !== null) await this.#add(source, entry);
  }

  /** @throws {CliError} usage, for a list that ends in a source */
  end(): void {
    if (this.#source === null) return;
    throw new CliError('The list ends with a source that has no destination.', EXIT.usage);
  }

  absolute(path: Uint8Array): Buffer {
    if (path[0] === SLASH) return Buffer.from(path);
    return Buffer.concat([this.#folder, Buffer.from('/'), path]);
  }

  /** Posts it: streamed, or with directories as JSON, which holds both. */
  async send(
    client: ServiceClient,
    wishes: TransferWishes,
    directories: readonly TransferDirectory[],
    scrTransferFile: string | null,
    idempotencyKey: string,
  ): Promise<Answer> {
    const headers = { 'idempotency-key': idempotencyKey };
    const { node, bytesPerSecond, cpuPercent, verify, labels, ...times } = wishes;
    if (directories.length === 0 && scrTransferFile === null) {
      const label = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
      const query = { node, bytesPerSecond, cpuPercent, verify: String(verify), ...times, label };
      const content = this.#content();
      return client.request('POST', withQuery('/v1/transfers', query), {
        headers,
        content,
        timeoutMs: ACCEPT_TIMEOUT_MS,
      });
    }
    const json = {
      node,
      ...(this.files > 0 && { files: await this.#asObjects() }),
      ...(directories.length > 0 && { directories }),
      ...(scrTransferFile !== null && { scrTransferFile }),
      limits: { bytesPerSecond, cpuPercent },
      verify,
      ...times,
      labels,
    };
    return client.request('POST', '/v1/transfers', { headers, json, timeoutMs: ACCEPT_TIMEOUT_MS });
  }

  close(): Promise<void> {
    return this.#spool.close();
  }

  async #add(source: Uint8Array, destination: Uint8Array): Promise<void> {
    const line = JSON.stringify({
      source: pathText(this.absolute(source)),
      destination: pathText(this.absolute(destination)),
    });
    await this.#spool.add(Buffer.from(line));
  }

  /** JSON has neither a NUL nor a newline in it, so what ends an entry of the spool can become what ends a line. */
  #content(): Content {
    const { bytes, chunks } = this.#spool.content();
    return {
      type: 'application/x-ndjson',
      bytes,
      async *chunks() {
        for await (const chunk of chunks())
          yield Buffer.from(chunk).map((byte) => (byte === 0 ? 0x0a : byte));
      },
    };
  }

  async #asObjects(): Promise<unknown[]> {
    if (this.#spool.bytes > MAX_JSON_BYTES) {
      throw new CliError(
        'A list this long cannot be sent together with --directory. Submit the list and the directories as two jobs.',
        EXIT.usage,
      );
    }
    const parts: Uint8Array[] = [];
    for await (const chunk of this.#content().chunks()) parts.push(chunk);
    const lines = Buffer.concat(parts).toString().split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as unknown);
  }
}

/** @throws {CliError} usage */
function nameOf(source: Uint8Array): Buffer {
  const name = Buffer.from(basename(Buffer.from(source).toString('latin1')), 'latin1');
  if (name.length > 0 && name.toString() !== '.' && name.toString() !== '..') return name;
  throw new CliError(`${JSON.stringify(pathText(source))} is no name of a file.`, EXIT.usage);
}
