import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readDashboard } from '../../src/api/dashboard.js';
import { CACHE_EXAMPLE } from '../../src/api/examples.js';
import { BrokerError } from '../../src/model/errors.js';
import type { Job } from '../../src/model/job.js';
import { LOCAL_PRINCIPAL, type Principal } from '../../src/model/principal.js';
import { ended, getJson, numbered } from '../e2e/processes.js';
import { startApi } from '../support/api.js';
import { findChromium, type Page } from '../support/chromium.js';
import { type Dashboard, openDashboard } from './rig.js';

const chromium = findChromium();
const skip = chromium === null ? 'no Chromium is installed (Debian: chromium)' : false;
const DESKTOP = { width: 1200, height: 800, colors: 'light' } as const;

/** Text of the page as it is seen. */
const TEXT = `(document.body?.innerText ?? '')`;

function says(text: string): string {
  return `${TEXT}.includes(${JSON.stringify(text)})`;
}

function button(text: string): string {
  return `[...document.querySelectorAll('button')].find((one) => one.innerText.startsWith(${JSON.stringify(text)}) && one.checkVisibility() && !one.disabled)`;
}

async function click(page: Page, text: string): Promise<void> {
  await page.until(button(text));
  await page.evaluate(`${button(text)}.click()`);
}

/** What was read out, from now on until another page is loaded. */
async function recordNotices(page: Page): Promise<void> {
  await page.evaluate(`(() => {
    window.told = [];
    const notice = document.querySelector('[role=status]');
    new MutationObserver(() => told.push(notice.innerText)).observe(notice, { childList: true, characterData: true, subtree: true });
  })()`);
}

function jobIs(state: string): string {
  return `document.querySelector('.headline .badge')?.innerText === '${state}'`;
}

async function at(page: Page, url: string, place: string): Promise<void> {
  await page.goto(`${url}/#/${place}`);
  await page.until(`location.hash.startsWith('#/${place}') && document.querySelector('h1')`);
}

const idOnPage = `location.hash.replace('#/jobs/', '')`;

let dashboard: Dashboard;
const context: { ends: (() => unknown)[] } = { ends: [] };

before(async () => {
  if (chromium === null) return;
  // The rig is for all tests of this file: it ends with the last one.
  const t = { after: (end: () => unknown) => context.ends.push(end) } as unknown as TestContext;
  dashboard = await openDashboard(t, chromium, {
    flushLatencyMs: 400,
    flushConcurrency: 64,
    faults: [{ kind: 'error', path: '/file-0000007', procedures: ['COMMIT'], status: 28 }],
  });
  await dashboard.page.look(DESKTOP);
});

after(async () => {
  for (const end of context.ends.reverse()) await end();
});

test('submit by the API, watch, see an error, retry, cancel, pause a cache', { skip }, async () => {
  const { page, url, sim, submit } = dashboard;
  await page.goto(`${url}/`);
  await page.until(says('No job yet'));
  await recordNotices(page);

  const { id } = await submit(numbered(200), { label: 'run=42' });
  await page.until(`document.querySelector('a[href="#/jobs/${id}"]')`);
  await page.evaluate(`document.querySelector('a[href="#/jobs/${id}"]').click()`);
  await page.until(says('run=42'));
  // It moves by itself to its end.
  const bar = `document.querySelector('.panel [role=progressbar]')`;
  await page.until(`Number(${bar}?.getAttribute('aria-valuenow')) > 0`);
  await page.until(jobIs('partial'));
  await page.until(`told.includes('The job has ended: partial.')`);
  assert.equal(
    await page.until(`${bar}.getAttribute('aria-valuetext')`),
    '200 of 200 files, 1 file not done',
  );
  await page.until(says('ENOSPC'));
  assert.equal(await page.evaluate(says('The permanent store is full. Free space there, then retry.')), true);
  await click(page, 'Show it');
  await page.until(`document.querySelectorAll('.files tbody tr').length === 1`);
  await page.until(says('NFS3ERR_NOSPC'));

  sim.setFaults([]);
  await click(page, 'Retry 1');
  await page.until(`document.querySelector('dialog[open]')`);
  await page.evaluate(`document.querySelector('dialog [type=submit]').click()`);
  await page.until(`${idOnPage} !== '${id}' && ${says('Retries')}`);
  const retried = await page.evaluate<string>(idOnPage);
  assert.equal((await ended(url, retried)).parentJobId, id);
  await page.until(says('1 of 1\nfiles succeeded'));

  const long = await submit(numbered(60_000, 1000));
  await at(page, url, `jobs/${long.id}`);
  await click(page, 'Cancel');
  await page.until(`document.querySelector('dialog[open]')`);
  await page.evaluate(`document.querySelector('dialog [type=submit]').click()`);
  await page.until(jobIs('canceled'));
  assert.equal((await ended(url, long.id)).state, 'canceled');

  await at(page, url, 'caches');
  await page.until(`document.querySelectorAll('.chart rect').length === 120`);
  await click(page, 'Pause');
  await page.until(`document.activeElement?.tagName === 'TEXTAREA'`);
  await page.type('Filer upgrade until 14:00');
  await page.until(button('Pause it'));
  await page.evaluate(`document.querySelector('dialog [type=submit]').click()`);
  await page.until(says('Paused. Filer upgrade until 14:00'));
  const held = await submit(numbered(3));
  await at(page, url, `jobs/${held.id}`);
  await page.until(says('Its cache is paused. Filer upgrade until 14:00'));
  await at(page, url, 'caches');
  await click(page, 'Resume');
  assert.equal((await ended(url, held.id)).state, 'succeeded');
  assert.deepEqual(page.errors, []);
});

test('everything can be done by the keyboard, and a dialog keeps and gives back the focus', {
  skip,
}, async () => {
  const { page, url, submit } = dashboard;
  const { id } = await submit(numbered(60_000, 1000));
  await at(page, url, 'jobs');
  await page.until(`document.querySelector('a[href="#/jobs/${id}"]')`);
  await page.evaluate('document.activeElement.blur()');

  await page.press('g', 'c');
  await page.until(
    `document.querySelector('h1').innerText === 'Caches' && document.activeElement.tagName === 'H1'`,
  );
  await page.press('g', 'j');
  await page.until(`document.querySelector('h1').innerText === 'Jobs'`);
  await page.until(`document.querySelectorAll('[data-row]').length >= 1`);
  await page.press('j', 'Enter');
  await page.until(`${idOnPage} === '${id}' && document.activeElement.tagName === 'H1'`);
  await page.until(button('Cancel'));
  const focused = `getComputedStyle(document.activeElement).outlineStyle`;
  await page.press('Tab');
  assert.equal(await page.until(focused), 'solid');
  assert.equal(await page.evaluate(`document.activeElement.innerText.startsWith('Cancel')`), true);

  await page.press('Enter');
  await page.until(`document.querySelector('dialog[open]')`);
  for (let i = 0; i < 6; i++) {
    await page.press('Tab');
    const inside = `document.querySelector('dialog').contains(document.activeElement) || document.activeElement === document.body`;
    assert.equal(await page.evaluate(inside), true);
  }
  // Keys mean nothing behind a dialog.
  await page.press('g', 'c', 'Escape');
  await page.until(`!document.querySelector('dialog')`);
  assert.equal(await page.evaluate(`document.activeElement.innerText.startsWith('Cancel')`), true);
  await page.press('x');
  await page.until(`document.querySelector('dialog[open]')`);
  await page.press('Tab', 'Enter');
  await page.until(jobIs('canceled'));

  await page.press('?');
  await page.until(says('Single keys do these things'));
  await page.press('Escape');
  await page.until(`!document.querySelector('dialog')`);
  assert.deepEqual(page.errors, []);
});

test('both themes, as the system has it or as chosen; nothing is wider than a phone', { skip }, async () => {
  const { page, url } = dashboard;
  const { items } = await getJson<{ items: Job[] }>(`${url}/v1/jobs`);
  const background = `getComputedStyle(document.documentElement).backgroundColor`;
  await page.look({ width: 360, height: 640, colors: 'dark' });
  for (const place of ['jobs', `jobs/${items.at(-1)?.id}`, 'caches', 'nodes']) {
    await at(page, url, place);
    await page.until(`document.querySelector('.bar, .empty')`);
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, place);
  }
  const dark = await page.evaluate(background);
  await page.look(DESKTOP);
  const light = await page.evaluate(background);
  assert.notEqual(light, dark);
  await page.press('t', 't');
  await page.until(`document.documentElement.dataset.theme === 'dark'`);
  assert.equal(await page.evaluate(background), dark);
  await page.press('t');
  assert.equal(await page.evaluate(background), light);
});

test('while the service restarts it says so, keeps what it shows, and goes on by itself', {
  skip,
}, async () => {
  const { page, url, submit, stopService, startService } = dashboard;
  const { id } = await submit(numbered(600, 200_000));
  await at(page, url, `jobs/${id}`);
  await page.until(`document.querySelector('.panel [role=progressbar]')`);
  await stopService();
  await page.until(says('Trying again'));
  assert.equal(await page.evaluate(`document.querySelector('h1').innerText`), id);
  assert.ok(await page.evaluate(`document.querySelector('.panel [role=progressbar]') !== null`));
  await startService();
  await page.until(`!(${says('Trying again')})`);
  await page.until(says('600 of 600\nfiles succeeded'));
});

test('where a credential is wanted, it asks for a token, keeps it in the tab, and offers what the role allows', {
  skip,
}, async (t) => {
  const { page } = dashboard;
  const principals: Record<string, Principal> = {
    'Bearer for-ada': { ...LOCAL_PRINCIPAL, name: 'ada', role: 'submit' },
    'Bearer for-ops': { ...LOCAL_PRINCIPAL, name: 'ops', role: 'operate' },
  };
  const api = startApi({
    dashboard: readDashboard(fileURLToPath(new URL('../../src/web', import.meta.url))),
    authenticate: async (authorization) => {
      const principal = principals[authorization ?? ''];
      if (principal) return principal;
      throw new BrokerError('UNAUTHENTICATED', 'Send a token.');
    },
  });
  api.memory.caches.set('projects', structuredClone(CACHE_EXAMPLE));
  t.after(api.close);
  const url = await api.listen();
  const signIn = async (token: string): Promise<void> => {
    await page.until(`document.querySelector('input[type=password]')`);
    await page.evaluate(`document.querySelector('input[type=password]').focus()`);
    await page.type(token);
    await page.until(button('Sign in'));
    await page.press('Enter');
  };
  await page.goto(`${url}/#/caches`);
  await page.until(says('Send a token.'));
  await signIn('wrong');
  await page.until(
    `document.querySelector('input[type=password]')?.value === '' && ${says('Send a token.')}`,
  );
  await signIn('for-ada');
  await page.until(`${says('ada · sign out')} && document.querySelector('.cache')`);
  assert.equal(await page.evaluate(`Boolean(${button('Pause')})`), false);
  assert.deepEqual(
    await page.evaluate(
      '[localStorage, sessionStorage].map((kept) => JSON.stringify(kept).includes("for-ada"))',
    ),
    [false, true],
  );
  assert.equal(await page.evaluate('document.cookie + location.href'), `${url}/#/caches`);

  await page.evaluate('location.reload()');
  await page.until(says('ada · sign out'));
  await click(page, 'ada');
  await page.until(says('You have signed out.'));
  assert.equal(await page.evaluate('sessionStorage.length'), 0);
  await signIn('for-ops');
  await page.until(button('Pause'));
  // Taken back while somebody looks.
  delete principals['Bearer for-ops'];
  await page.until(says('Send a token.'));
  assert.equal(await page.evaluate(says('projects')), false);
});

test('its content security policy lets nothing else run, and nothing be loaded from elsewhere', {
  skip,
}, async () => {
  const { page, url } = dashboard;
  await at(page, url, 'jobs');
  const violated = await page.evaluate<string[]>(`(async () => {
    const violated = [];
    document.addEventListener('securitypolicyviolation', (event) => violated.push(event.effectiveDirective));
    const script = document.createElement('script');
    let html = true;
    try { document.body.innerHTML += '<b>text</b>'; } catch { html = false; }
    try { script.text = 'window.ran = true'; } catch {}
    document.body.append(script);
    const image = new Image();
    image.src = 'http://127.0.0.2:9/picture.png';
    document.body.append(image);
    document.body.setAttribute('style', 'color: red');
    await fetch('http://127.0.0.2:9/').catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    return [...new Set(violated), 'ran' in window || html ? 'it ran' : 'nothing ran'];
  })()`);
  for (const directive of [
    'connect-src',
    'img-src',
    'style-src-attr',
    'require-trusted-types-for',
    'nothing ran',
  ])
    assert.ok(violated.includes(directive), `${directive}: ${violated}`);
});
