import { Agent, get } from 'node:http';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job } from '../src/model/job.js';

/**
 * A client that polls a job until it has ended: a process of its own, so that nothing else that a benchmark does is
 * measured with it. `node build/bench/status-poller.js INTERVAL_MS`, then the URLs of jobs as lines on stdin; prints
 * for each the milliseconds that every answer took, as a line of JSON.
 */

const TIMEOUT_MS = 900_000;

/** One connection that is kept, as any client library does it. */
const agent = new Agent({ keepAlive: true, maxSockets: 1, noDelay: true });

/** Milliseconds from the request until the last byte of the answer, and the answer. */
function ask(url: string): Promise<{ ms: number; body: string }> {
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    get(url, { agent }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.once('end', () => {
        const ms = performance.now() - begin;
        const body = Buffer.concat(parts).toString();
        if (response.statusCode === 200) resolve({ ms, body });
        else reject(new Error(`${url}: ${response.statusCode} ${body}`));
      });
      response.once('error', reject);
    }).once('error', reject);
  });
}

/** Polls at a fixed rate: the time an answer takes is no pause for the service. */
async function untilEnd(url: string, everyMs: number): Promise<number[]> {
  const times: number[] = [];
  const begin = performance.now();
  for (let next = begin; ; next = Math.max(next + everyMs, performance.now())) {
    await sleep(Math.max(0, next - performance.now()));
    const { ms, body } = await ask(url);
    times.push(ms);
    if ((JSON.parse(body) as Job).finishedAt !== null) return times;
    if (performance.now() - begin > TIMEOUT_MS) throw new Error(`${url} did not end`);
  }
}

const everyMs = Number(process.argv[2]);
for await (const url of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await untilEnd(url, everyMs)));
}
agent.destroy();
