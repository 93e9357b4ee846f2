import { connect, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';

/**
 * Clients that poll a job or listen, each on a connection of its own, as cheap as they can be: they run on the
 * processors that they measure. `node build/bench/listening-clients.js poll CLIENTS MILLISECONDS` or `… listen CLIENTS`;
 * then `URL JOB` on stdin begins, an empty line ends it and prints what it was like as a line of JSON.
 */

export interface PollingReport {
  pollMs: number[];
}

export interface ListeningReport {
  events: number;
  bytes: number;
}

interface Clients {
  end(): PollingReport | ListeningReport;
}

const ASK_AGAIN_MS = 100;
/** Clients come one after the other, as they do who know nothing of each other. */
const COMING_MS = 1000;
const EVENT = Buffer.from('\nevent: ');

class PollingClients implements Clients {
  readonly #pollMs: number[] = [];
  readonly #sockets: Socket[] = [];
  readonly #coming: NodeJS.Timeout[];
  readonly #everyMs: number;

  constructor(count: number, everyMs: number, url: URL, job: string) {
    this.#everyMs = everyMs;
    this.#coming = oneAfterTheOther(count, () => this.#poll(url, job));
  }

  end(): PollingReport {
    for (const timer of this.#coming) clearTimeout(timer);
    for (const socket of this.#sockets) socket.destroy();
    return { pollMs: this.#pollMs };
  }

  /** At a fixed rate, with the entity tag of the answer before, as a careful client does it. The first has to connect. */
  #poll(url: URL, job: string): void {
    const socket = open(url);
    this.#sockets.push(socket);
    let known = '';
    let begin = 0;
    let text = '';
    const send = (): void => {
      socket.write(`GET /v1/jobs/${job} HTTP/1.1\r\nHost: ${url.host}\r\n${known}\r\n`);
    };
    const ask = (): void => {
      begin = performance.now();
      send();
    };
    let timer: NodeJS.Timeout | undefined;
    ask();
    socket.setEncoding('latin1').on('data', (part: string) => {
      text += part;
      const headerEnd = text.indexOf('\r\n\r\n');
      if (headerEnd < 0) return;
      requireStatus(text, [200, 304, 503]);
      const bytes = statusOf(text) === 304 ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (text.length < headerEnd + 4 + bytes) return;
      if (statusOf(text) === 503) {
        // The store is away for a moment; the time until there is an answer counts.
        text = '';
        timer = setTimeout(send, ASK_AGAIN_MS);
        return;
      }
      const took = performance.now() - begin;
      this.#pollMs.push(took);
      known = `If-None-Match: ${/\r\netag: ([^\r]+)/i.exec(text)?.[1]}\r\n`;
      text = '';
      timer = setTimeout(ask, Math.max(0, this.#everyMs - took));
    });
    socket.on('close', () => clearTimeout(timer));
  }
}

class ListeningClients implements Clients {
  readonly #report: ListeningReport = { events: 0, bytes: 0 };
  readonly #sockets: Socket[] = [];
  readonly #coming: NodeJS.Timeout[];

  constructor(count: number, url: URL, job: string) {
    this.#coming = oneAfterTheOther(count, (i) =>
      this.#listen(url, i % 2 === 0 ? `/v1/jobs/${job}/events` : '/v1/events'),
    );
  }

  end(): ListeningReport {
    for (const timer of this.#coming) clearTimeout(timer);
    for (const socket of this.#sockets) socket.destroy();
    return this.#report;
  }

  #listen(url: URL, path: string): void {
    const socket = open(url);
    this.#sockets.push(socket);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${url.host}\r\n\r\n`);
    socket.once('data', (part) => requireStatus(String(part), [200]));
    socket.on('data', (part: Buffer) => {
      this.#report.bytes += part.length;
      for (let at = part.indexOf(EVENT); at >= 0; at = part.indexOf(EVENT, at + 1)) this.#report.events += 1;
    });
  }
}

function oneAfterTheOther(count: number, come: (index: number) => void): NodeJS.Timeout[] {
  return Array.from({ length: count }, (_, i) => setTimeout(() => come(i), (i / count) * COMING_MS));
}

function open(url: URL): Socket {
  const socket = connect(Number(url.port), url.hostname).setNoDelay();
  return socket.on('error', () => {});
}

function statusOf(answer: string): number {
  return Number(answer.slice(9, 12));
}

/** A service that refuses would be a quick one. */
function requireStatus(answer: string, wanted: readonly number[]): void {
  if (!wanted.includes(statusOf(answer))) throw new Error(`the service answered ${answer}`);
}

const [kind, ...counts] = process.argv.slice(2);
const [count = 0, everyMs = 0] = counts.map(Number);
let clients: Clients | null = null;
for await (const line of createInterface({ input: process.stdin })) {
  const [url = '', job = ''] = line.split(' ');
  if (line === '') console.log(JSON.stringify(clients?.end()));
  else if (kind === 'poll') clients = new PollingClients(count, everyMs, new URL(url), job);
  else clients = new ListeningClients(count, new URL(url), job);
}
