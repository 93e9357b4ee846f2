import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { Keys, queueName } from '../../src/store/keys.js';
import { ended, numbered } from '../e2e/processes.js';
import { findChromium, type Page, type Screen } from '../support/chromium.js';
import { openDashboard } from './rig.js';

/** `npm run screenshots`: the pictures of the dashboard in the documents, of a service with work in every state. */

const [folder = 'docs/images'] = process.argv.slice(2);
const LIGHT: Screen = { width: 1200, height: 760, colors: 'light' };
const DARK: Screen = { ...LIGHT, colors: 'dark' };
const PHONE: Screen = { width: 360, height: 720, colors: 'light' };

test('pictures of the dashboard', async (t) => {
  const chromium = findChromium();
  if (chromium === null) throw new Error('no Chromium is installed (Debian: chromium)');
  await mkdir(folder, { recursive: true });
  const dashboard = await openDashboard(t, chromium, {
    flushLatencyMs: 2500,
    flushConcurrency: 256,
    faults: [
      { kind: 'error', path: '/file-000002*', procedures: ['COMMIT'], status: 28 },
      { kind: 'error', path: '/file-0000031', procedures: ['COMMIT'], status: 13 },
    ],
  });
  const { page, url, submit, dataDir } = dashboard;
  await pretendAnHour(dataDir);
  await submit(numbered(256, 1000), { label: 'run=41' });
  const partial = await submit([...numbered(60), 'results/missing.dat'], { label: 'run=42' });
  await ended(url, partial.id);
  await page.goto(`${url}/#/jobs/${partial.id}`);
  await page.until(`document.querySelectorAll('.errors > li').length >= 3`);
  const running = await submit(numbered(4000, 10_000), { label: 'run=43' });
  await fetch(`${url}/v1/transfers`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      node: 'n042',
      files: [{ source: '/local/run44/checkpoint.0', destination: '/lustre/run44/checkpoint.0' }],
      labels: { run: '44' },
    }),
  });
  const shoot = async (name: string, screen: Screen): Promise<void> => {
    await page.look(screen);
    await page.evaluate('new Promise((resolve) => setTimeout(resolve, 400))');
    await writeFile(join(folder, `${name}.png`), await page.screenshot());
  };
  await shoot('dashboard-job-dark', DARK);
  await page.goto(`${url}/#/jobs/${running.id}`);
  await percentAbove(page, 40);
  await page.look(LIGHT);
  await page.goto(`${url}/#/jobs`);
  await page.until(`document.querySelectorAll('tbody tr').length === 4`);
  await shoot('dashboard-jobs-light', LIGHT);
  await page.look(PHONE);
  // Anew, as on a phone.
  await page.evaluate('location.reload()');
  await page.until(`document.querySelectorAll('tbody tr').length === 4`);
  await shoot('dashboard-jobs-phone', PHONE);
  await page.look(DARK);
  await page.goto(`${url}/#/caches`);
  await page.until(`document.querySelector('.chart rect')`);
  await shoot('dashboard-caches-dark', DARK);
});

async function percentAbove(page: Page, percent: number): Promise<void> {
  await page.until(
    `Number.parseInt(document.querySelector('.big .number')?.textContent ?? '0') > ${percent}`,
  );
}

/** A service that has just been started has no hour behind it. */
async function pretendAnHour(dataDir: string): Promise<void> {
  const redis = new Redis({ path: join(dataDir, 'redis.sock') });
  const minute = Math.floor(Date.now() / 60_000);
  const fields: Record<string, string> = {};
  for (let ago = 1; ago < 60; ago++) {
    const files = Math.round(9000 + 6000 * Math.sin(ago / 7) + 2500 * Math.sin(ago * 1.7));
    const failed = ago > 20 && ago < 25 ? 1400 : 0;
    fields[`minute:${(minute - ago) % 60}`] = `${minute - ago} ${files} ${failed} ${files * 4_300_000}`;
  }
  await redis.hset(new Keys('writeback').cache(queueName('projects', false)), fields);
  redis.disconnect();
}
