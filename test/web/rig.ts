import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Job } from '../../src/model/job.js';
import {
  type SimulatedCache,
  type SimulatedCacheOptions,
  startSimulatedCache,
} from '../../src/sim/server.js';
import { type ServiceProcess, startService, testFolder } from '../e2e/processes.js';
import { type Page, startChromium } from '../support/chromium.js';
import { freePort } from '../support/free-ports.js';

/** The service as a process with its private Redis, a simulated cache, and a browser that looks at the dashboard. */

export interface Dashboard {
  page: Page;
  sim: SimulatedCache;
  url: string;
  dataDir: string;
  /** POSTs a list of files of `/synthetic`; gives the job. */
  submit(paths: readonly string[], query?: Record<string, string>): Promise<Job>;
  stopService(): Promise<void>;
  startService(): Promise<void>;
}

export async function openDashboard(
  t: TestContext,
  chromium: string,
  options: SimulatedCacheOptions & { config?: Record<string, unknown> } = {},
): Promise<Dashboard> {
  const { config = {}, ...cache } = options;
  const sim = await startSimulatedCache({ syntheticFiles: 1_000_000, ...cache });
  t.after(() => sim.close());
  const browser = await startChromium(chromium);
  t.after(() => browser.close());
  const port = await freePort();
  const dataDir = join(await testFolder(t), 'data');
  const whole = {
    http: { port },
    dataDir,
    caches: [{ name: 'projects', addresses: [sim.address], dialect: 'hpc-cache', ports: portsOf(sim) }],
    ...config,
  };
  let service: ServiceProcess | null = null;
  const url = `http://127.0.0.1:${port}`;
  const dashboard: Dashboard = {
    page: browser.page,
    sim,
    url,
    dataDir,
    async submit(paths, query = {}) {
      const target = new URLSearchParams({ cache: 'projects', export: '/synthetic', ...query });
      const answer = await fetch(`${url}/v1/flushes?${target}`, {
        method: 'POST',
        headers: { 'content-type': 'text/plain' },
        body: paths.join('\n'),
      });
      const body = (await answer.json()) as Job;
      if (answer.status !== 202) throw new Error(JSON.stringify(body));
      return body;
    },
    async stopService() {
      service?.kill('SIGTERM');
      await service?.ended;
    },
    async startService() {
      service = await startService(t, whole);
    },
  };
  await dashboard.startService();
  return dashboard;
}

function portsOf({ ports }: SimulatedCache): { mount: number; nfs: number } {
  return { mount: ports.mount, nfs: ports.nfs };
}
