import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readDashboard } from '../../src/api/dashboard.js';
import { CACHE_EXAMPLE } from '../../src/api/examples.js';
import { BrokerError } from '../../src/model/errors.js';
import type { Cache, Job } from '../../src/model/job.js';
import { LOCAL_PRINCIPAL, type Principal } from '../../src/model/principal.js';
import { ended, getJson, numbered } from '../e2e/processes.js';
import { startApi } from '../support/api.js';
import { findChromium, type Page } from '../support/chromium.js';
import { type Receiver, startReceiver } from '../support/receiver.js';
import { type Dashboard, openDashboard } from './rig.js';

const chromium = findChromium();
const skip = chromium === null ? 'no Chromium is installed (Debian: chromium)' : false;
const SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`;
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

/** The second key has to follow soon, and a busy machine may be too late with it. */
async function goByKeys(page: Page, key: string, heading: string): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    await page.press('g', key);
    if (await page.evaluate(`document.querySelector('h1').innerText === '${heading}'`)) return;
  }
  assert.fail(`g ${key} does not lead to ${heading}`);
}

const idOnPage = `location.hash.replace('#/jobs/', '').split('?')[0]`;

/** Texts that are hard to read: whose colour and background differ by less than 4.5 to 1 (WCAG 2.2, 1.4.3). */
const FAINT_TEXTS = `(() => {
  const channels = (color) => {
    const numbers = color.match(/[\\d.]+/g).map(Number);
    const [r, g, b, alpha = 1] = numbers;
    return color.startsWith('color(srgb') ? [r * 255, g * 255, b * 255, alpha] : [r, g, b, alpha];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => element === null
    ? channels(getComputedStyle(document.documentElement).backgroundColor)
    : over(channels(getComputedStyle(element).backgroundColor), background(element.parentElement));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (text === '' || !element.checkVisibility() || element.closest(':disabled, .hidden-text, option')) continue;
    const style = getComputedStyle(element);
    const below = background(element);
    const color = over(channels(element instanceof SVGElement ? style.fill : style.color), below);
    const [light, dark] = [luminance(color), luminance(below)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) faint.push(text.slice(0, 40) + ': ' + ratio.toFixed(2));
  }
  return faint;
})()`;

let dashboard: Dashboard;
let receiver: Receiver;
const context: { ends: (() => unknown)[] } = { ends: [] };

before(async () => {
  if (chromium === null) return;
  // The rig is for all tests of this file: it ends with the last one.
  const t = { after: (end: () => unknown) => context.ends.push(end) } as unknown as TestContext;
  receiver = await startReceiver();
  t.after(() => receiver.close());
  dashboard = await openDashboard(t, chromium, {
    flushLatencyMs: 400,
    flushConcurrency: 64,
    faults: [{ kind: 'error', path: '/file-0000007', procedures: ['COMMIT'], status: 28 }],
    config: {
      webhooks: {
        endpoints: [{ name: 'hook', url: receiver.url, secrets: [SECRET] }],
        networks: ['127.0.0.0/8'],
        retrySeconds: [],
      },
    },
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
  assert.equal(await page.evaluate('location.hash'), `#/jobs/${id}?code=ENOSPC`);
  assert.equal(await page.evaluate('document.activeElement.id'), 'files');
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

test('what a cache bears is changed and set back to its configuration', { skip }, async () => {
  const { page, url } = dashboard;
  const limits = async (): Promise<Cache['limits']> =>
    (await getJson<Cache>(`${url}/v1/caches/projects`)).limits;
  const before = await limits();
  await at(page, url, 'caches');
  await click(page, 'Limits');
  await page.until(`document.activeElement?.type === 'number'`);
  await page.evaluate('document.activeElement.select()');
  await page.type('0');
  // Refused by the browser already.
  await page.press('Enter');
  assert.equal(await page.evaluate(`document.querySelector('dialog :invalid') !== null`), true);
  assert.deepEqual(await limits(), before);
  await page.evaluate('document.activeElement.select()');
  await page.type('32');
  await page.press('Tab');
  await page.type('200.5');
  await page.press('Enter');
  await page.until(says('32 flushes at a time, 200.5 per second'));
  assert.deepEqual(await limits(), { inFlight: 32, filesPerSecond: 200.5 });
  await page.until(says('configured: 256 flushes at a time, any number per second'));
  await click(page, 'Limits');
  await click(page, 'Back to the configuration');
  await page.until(`!document.querySelector('dialog')`);
  assert.deepEqual(await limits(), before);
  assert.deepEqual(page.errors, []);
});

test('what a webhook was told is listed with what came of it, and sent again', { skip }, async () => {
  const { page, url, submit } = dashboard;
  receiver.answer = (response) => void response.writeHead(500).end();
  const { id } = await submit(numbered(1, 3000), { webhook: 'hook' });
  await at(page, url, `jobs/${id}`);
  await page.until(says('hook is told of job.ended.'));
  await page.until(`document.querySelector('.entry-head .badge')?.innerText === 'failed'`);
  assert.match(await page.evaluate(`document.querySelector('.entry-head').innerText`), /500.*given up/s);
  receiver.answer = (response) => void response.writeHead(204).end();
  await click(page, 'Send again');
  await receiver.atLeast(2);
  await page.until(`document.querySelector('.entry-head .badge')?.innerText === 'delivered'`);
  await page.until(says('2 attempts'));
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

  await goByKeys(page, 'c', 'Caches');
  await page.until(`document.activeElement.tagName === 'H1'`);
  await goByKeys(page, 'j', 'Jobs');
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

  // Whoever pages goes on paging.
  const rows = `[...document.querySelectorAll('.files tbody .path')].map((path) => path.innerText)`;
  const next = `[...document.querySelectorAll('.pager button')].at(-1)`;
  await page.until(`${next}?.ariaDisabled === 'false'`);
  await page.evaluate(`${next}.focus()`);
  for (const file of ['file-0001050', 'file-0001100']) {
    await page.press('Enter');
    await page.until(`${rows}[0] === '${file}' && ${next}.ariaDisabled === 'false'`);
    assert.equal(await page.evaluate(`document.activeElement === ${next}`), true);
  }
  await page.evaluate(`document.querySelector('.menu summary').focus()`);
  await page.press('Enter', 'Tab');
  await page.until(`document.activeElement?.innerText === 'Not done, CSV'`);
  await page.press('Escape');
  await page.until(
    `document.activeElement?.innerText === 'Report ↓' && !document.querySelector('.menu[open]')`,
  );

  await page.press('?');
  await page.until(says('Single keys do these things'));
  await page.press('Escape');
  await page.until(`!document.querySelector('dialog')`);
  assert.deepEqual(page.errors, []);
});

test('both themes, as the system has it or as chosen, are easy to read; nothing is wider than the window, on a phone neither', {
  skip,
}, async () => {
  const { page, url } = dashboard;
  const { items } = await getJson<{ items: Job[] }>(`${url}/v1/jobs`);
  const background = `getComputedStyle(document.documentElement).backgroundColor`;
  const places = ['jobs', `jobs/${items.at(-1)?.id}`, 'caches', 'nodes'];
  const seen: Record<string, string> = { caches: '.chart rect', nodes: '.empty' };
  for (const colors of ['dark', 'light'] as const) {
    await page.look({ width: 360, height: 640, colors });
    for (const place of places) {
      await at(page, url, place);
      await page.until(`document.querySelector('${seen[place] ?? '.panel .errors, tbody'}')`);
      assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, place);
      assert.deepEqual(await page.evaluate(FAINT_TEXTS), [], `${place}, ${colors}`);
    }
  }
  await at(page, url, 'jobs');
  await page.until(`document.querySelector('tbody')`);
  // Where rows are not cards any more, and a table has little room.
  for (const width of [800, 961, 1024]) {
    await page.look({ ...DESKTOP, width });
    assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width, `${width}`);
  }
  await page.look({ ...DESKTOP, colors: 'dark' });
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
    'Bearer for-root': { ...LOCAL_PRINCIPAL, name: 'root', role: 'admin' },
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
  await page.until(`document.activeElement?.type === 'password'`);
  // Nobody has done anything wrong yet.
  assert.equal(await page.evaluate(says('Send a token.')), false);
  await signIn('wrong');
  await page.until(
    `document.querySelector('input[type=password]')?.value === '' && ${says('Send a token.')}`,
  );
  await signIn('for-ada');
  await page.until(`${says('ada · sign out')} && document.querySelector('.cache')`);
  for (const action of ['Pause', 'Limits'])
    assert.equal(await page.evaluate(`Boolean(${button(action)})`), false, action);
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
  await signIn('for-root');
  await page.until(button('Limits'));
  await click(page, 'root');
  await signIn('for-ops');
  await page.until(button('Pause'));
  assert.equal(await page.evaluate(`Boolean(${button('Limits')})`), false);
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
