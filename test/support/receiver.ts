import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A receiver of webhooks: keeps what comes, and answers as it is told. */

export interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  /** As it came, which is what is signed. */
  body: string;
}

export interface Receiver {
  url: string;
  received: Received[];
  /** How the next calls are answered. */
  answer: (response: ServerResponse, call: Received) => void;
  /** Resolves when so many have come in all. */
  atLeast(count: number): Promise<void>;
  close(): Promise<void>;
}

export async function startReceiver(host = '127.0.0.1'): Promise<Receiver> {
  const waiting = new Set<() => void>();
  const receiver: Receiver = {
    url: '',
    received: [],
    answer: (response) => void response.writeHead(204).end(),
    async atLeast(count) {
      while (receiver.received.length < count) {
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
    },
    close: () => closeServer(server),
  };
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const call = {
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(parts).toString(),
      };
      receiver.received.push(call);
      receiver.answer(response, call);
      for (const resolve of waiting) resolve();
      waiting.clear();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  receiver.url = `http://${host}:${(server.address() as AddressInfo).port}`;
  return receiver;
}

function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
