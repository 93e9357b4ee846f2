import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Job } from '../../src/model/job.js';
import type { JobState } from '../../src/model/words.js';

export interface Recorded {
  method: string;
  url: string;
  headers: IncomingMessage['headers'];
  body: Buffer;
}

export interface Reply {
  status?: number;
  headers?: Record<string, string>;
  json?: unknown;
  /** Ends the connection instead of answering. */
  cut?: boolean;
}

/** `nth` counts from 1. */
type Script = (request: Recorded, nth: number) => Reply | Promise<Reply>;
/** Asked before the body is read: an answer refuses the request at once. */
type Refusal = (request: Recorded) => Reply | null;

/** An HTTP server that answers by a script, to bring about what a real service does only in bad moments. */
export class ScriptedService {
  readonly requests: Recorded[] = [];
  readonly #script: Script;
  readonly #refusal: Refusal;
  #server: Server | null = null;
  #port = 0;

  private constructor(script: Script, refusal: Refusal) {
    this.#script = script;
    this.#refusal = refusal;
  }

  static async start(script: Script, refusal: Refusal = () => null): Promise<ScriptedService> {
    const service = new ScriptedService(script, refusal);
    await service.listen();
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** At first on a free port, later on the same again. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#answer(request, response));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    const address = server.address();
    this.#port = address !== null && typeof address === 'object' ? address.port : 0;
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const recorded: Recorded = {
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      body: Buffer.alloc(0),
    };
    const nth = this.requests.push(recorded);
    const refused = this.#refusal(recorded);
    if (refused) {
      send(response, refused);
      request.resume();
      return;
    }
    const parts: Buffer[] = [];
    try {
      for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    } catch {
      return;
    }
    recorded.body = Buffer.concat(parts);
    send(response, await this.#script(recorded, nth));
  }
}

function send(response: ServerResponse, reply: Reply): void {
  if (reply.cut) {
    response.destroy();
    return;
  }
  const status = reply.status ?? 200;
  const type = status >= 400 ? 'application/problem+json' : 'application/json';
  response.writeHead(status, { 'content-type': type, ...reply.headers });
  response.end(reply.json === undefined ? undefined : JSON.stringify(reply.json));
}

/** A job as the API shows it. */
export function jobOf(id: string, state: JobState, progress: Partial<Job['progress']> = {}): Job {
  const time = '2026-01-31T12:00:00.000Z';
  const ended = !['queued', 'expanding', 'running', 'canceling'].includes(state);
  return {
    id,
    kind: 'flush',
    principal: 'local',
    state,
    paused: false,
    pausedReason: null,
    statusDetail: null,
    warnings: [],
    cache: 'projects',
    export: '/exp1',
    node: null,
    labels: {},
    options: {
      pathsAre: 'export',
      clientMount: null,
      dialect: 'hpc-cache',
      mode: 'async',
      fileTimeoutSeconds: 3600,
      deadlineSeconds: 86400,
    },
    webhook: null,
    parentJobId: null,
    createdAt: time,
    startedAt: time,
    finishedAt: ended ? '2026-01-31T12:00:04.000Z' : null,
    deadlineAt: '2026-02-01T12:00:00.000Z',
    goneAt: null,
    progress: {
      filesTotal: 2,
      filesTotalFinal: true,
      filesPending: 0,
      filesActive: 0,
      filesSucceeded: 0,
      filesAlreadyClean: 0,
      filesFailed: 0,
      filesSkipped: 0,
      filesCanceled: 0,
      filesExpired: 0,
      bytesTotal: null,
      bytesDone: 0,
      filesPerSecond: null,
      bytesPerSecond: null,
      etaSeconds: null,
      faults: 0,
      updatedAt: time,
      ...progress,
    },
  };
}

export function problemOf(status: number, code: string, detail: string): Reply {
  return {
    status,
    json: { type: 'about:blank', title: code, status, detail, instance: '/', code, requestId: 'r-1' },
  };
}
