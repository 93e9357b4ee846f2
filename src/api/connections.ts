import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/**
 * The connections of a server that closes. `server.closeIdleConnections` takes neither one that has not asked for
 * anything yet, as browsers and connection pools open them in advance, nor one that becomes idle later: the end of the
 * server would wait for their time-outs, a minute and more.
 */
export class Connections {
  /** Requests under way by connection. */
  readonly #busy = new Map<Socket, number>();
  #ending = false;

  constructor(server: Server) {
    server.on('connection', (socket) => {
      this.#busy.set(socket, 0);
      socket.once('close', () => this.#busy.delete(socket));
    });
    server.on('request', ({ socket }, response) => {
      this.#count(socket, 1);
      response.once('close', () => this.#count(socket, -1));
    });
  }

  /** From now on a connection ends as soon as nothing is asked on it. */
  endWhenIdle(): void {
    this.#ending = true;
    for (const [socket, requests] of this.#busy) if (requests === 0) socket.destroySoon();
  }

  #count(socket: Socket, change: number): void {
    const requests = (this.#busy.get(socket) ?? 0) + change;
    if (this.#busy.has(socket)) this.#busy.set(socket, requests);
    if (this.#ending && requests === 0) socket.destroySoon();
  }
}
