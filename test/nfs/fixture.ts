import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { CommitReply } from '../../src/nfs/client.js';
import { type CallLimit, NfsError, type NfsEvents, NfsExport, type NfsTarget } from '../../src/nfs/export.js';
import { type FaultCall, type FaultServer, startFaultServer } from '../support/fault-server.js';

/** A mounted export of a scripted server, and what the tests of the client share. */

export const FILE = Buffer.from('handle of a file');

export function limit(ms = 10_000, signal?: AbortSignal): CallLimit {
  return { deadlineAt: Date.now() + ms, signal };
}

export function targetOf(servers: readonly FaultServer[], options: Partial<NfsTarget> = {}): NfsTarget {
  const [first] = servers as [FaultServer];
  return {
    addresses: ['127.0.0.1'],
    ports: first.ports,
    credential: { uid: 0, gid: 0, gids: [] },
    machineName: 'client',
    privilegedPort: false,
    callTimeoutMs: 5000,
    ...options,
  };
}

export class Events implements NfsEvents {
  readonly log: string[] = [];
  down(error: NfsError): void {
    this.log.push(`down ${error.code}`);
  }
  up(address: string): void {
    this.log.push(`up ${address}`);
  }
  serverRestarted(address: string): void {
    this.log.push(`restarted ${address}`);
  }
  warning(message: string): void {
    this.log.push(`warning ${message}`);
  }
}

export interface Fixture {
  server: FaultServer;
  mounted: NfsExport;
  events: Events;
  commit(limit?: CallLimit): Promise<CommitReply>;
}

export async function fixture(t: TestContext, options: Partial<NfsTarget> = {}): Promise<Fixture> {
  const server = await startFaultServer();
  t.after(() => server.close());
  const events = new Events();
  const mounted = await NfsExport.mount(targetOf([server], options), '/export', limit(), events);
  t.after(() => mounted.close());
  return {
    server,
    mounted,
    events,
    commit: (callLimit = limit()) => mounted.commit(FILE, 0, 0, 0, callLimit),
  };
}

export function isCode(code: string, ...words: (string | RegExp)[]): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof NfsError, String(error));
    assert.equal(error.code, code, error.message);
    for (const word of words) assert.match(error.message, typeof word === 'string' ? new RegExp(word) : word);
    return true;
  };
}

/** Collects the calls of one procedure unanswered; all else is answered. */
export function hold(server: FaultServer, name: string): FaultCall[] {
  const held: FaultCall[] = [];
  server.script = (call) => {
    if (call.name !== name) return false;
    held.push(call);
    return true;
  };
  return held;
}
