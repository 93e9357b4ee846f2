import { connect, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';

/**
 * Clients that poll a job and clients that listen, as cheap as they can be: they run on the processors that they
 * measure. `node build/bench/listening-clients.js POLLING LISTENING`; then `URL JOB` on stdin begins, an empty line
 * ends it and prints what it was like as a line of JSON.
 */

export interface ClientsReport {
  pollMs: number[];
  notModified: number;
  eventBytes: number;
}

const POLL_EVERY_MS = 1000;
const [polling = 0, listening = 0] = process.argv.slice(2).map(Number);

class Clients {
  readonly report: ClientsReport = { pollMs: [], notModified: 0, eventBytes: 0 };
  readonly #sockets: Socket[] = [];
  readonly #address: URL;
  readonly #job: string;

  constructor(url: string, job: string) {
    this.#address = new URL(url);
    this.#job = job;
    for (let i = 0; i < listening; i++) this.#listen(i % 2 === 0 ? `/v1/jobs/${job}/events` : '/v1/events');
    for (let i = 0; i < polling; i++) this.#poll((i / polling) * POLL_EVERY_MS);
  }

  end(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #listen(path: string): void {
    const socket = this.#open();
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${this.#address.host}\r\n\r\n`);
    socket.once('data', (part) => requireStatus(String(part), [200]));
    socket.on('data', (part) => {
      this.report.eventBytes += part.length;
    });
  }

  /** At a fixed rate, with the entity tag of the answer before, as a careful client does it. */
  #poll(delayMs: number): void {
    const socket = this.#open();
    let known = '';
    let begin = 0;
    let text = '';
    const ask = (): void => {
      begin = performance.now();
      socket.write(`GET /v1/jobs/${this.#job} HTTP/1.1\r\nHost: ${this.#address.host}\r\n${known}\r\n`);
    };
    let timer = setTimeout(ask, delayMs);
    socket.setEncoding('latin1').on('data', (part: string) => {
      text += part;
      const headerEnd = text.indexOf('\r\n\r\n');
      if (headerEnd < 0) return;
      requireStatus(text, [200, 304]);
      const notModified = text.startsWith('HTTP/1.1 304');
      const bytes = notModified ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (text.length < headerEnd + 4 + bytes) return;
      const took = performance.now() - begin;
      this.report.pollMs.push(took);
      if (notModified) this.report.notModified += 1;
      known = `If-None-Match: ${/\r\netag: ([^\r]+)/i.exec(text)?.[1]}\r\n`;
      text = '';
      timer = setTimeout(ask, Math.max(0, POLL_EVERY_MS - took));
    });
    socket.on('close', () => clearTimeout(timer));
  }

  #open(): Socket {
    const socket = connect(Number(this.#address.port), this.#address.hostname).setNoDelay();
    socket.on('error', () => {});
    this.#sockets.push(socket);
    return socket;
  }
}

/** A service that refuses would be a quick one. */
function requireStatus(answer: string, wanted: readonly number[]): void {
  if (!wanted.includes(Number(answer.slice(9, 12)))) throw new Error(`the service answered ${answer}`);
}

let clients: Clients | null = null;
for await (const line of createInterface({ input: process.stdin })) {
  const [url = '', job = ''] = line.split(' ');
  if (line !== '') clients = new Clients(url, job);
  else if (clients !== null) {
    clients.end();
    console.log(JSON.stringify(clients.report));
  }
}
