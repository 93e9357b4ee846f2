import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CACHE_EXAMPLE, LIST_EXAMPLES } from '../../src/api/examples.js';
import { openApiDocument } from '../../src/api/openapi-document.js';
import { EXAMPLE_JOB_ID } from '../../src/model/request-fields.js';
import { startApi } from '../support/api.js';
import { findChromium, type Page, startChromium } from '../support/chromium.js';

const chromium = findChromium();

/**
 * All but /openapi.json, whose answer the page takes seconds to colour, and the events of a job, which have no end while
 * it runs. Operation of the page → what to fill in first, and the status that "Execute" must show.
 */
const STEPS: {
  id: string;
  fill?: Record<string, string>;
  bodyType?: string;
  body?: string;
  status: string;
}[] = [
  { id: 'flushes-createFlush', status: '202' },
  {
    id: 'flushes-createFlush',
    bodyType: 'text/plain',
    body: LIST_EXAMPLES.text.lines.value,
    fill: { cache: 'projects', export: '/exp1' },
    status: '202',
  },
  {
    id: 'flushes-createFlush',
    bodyType: 'application/x-ndjson',
    body: JSON.stringify(LIST_EXAMPLES.ndjson.line.value),
    status: '202',
  },
  { id: 'transfers-createTransfer', status: '202' },
  { id: 'jobs-listJobs', status: '200' },
  { id: 'jobs-getJob', status: '404' },
  { id: 'jobs-getJob', fill: { id: 'f1' }, status: '200' },
  { id: 'jobs-listFiles', fill: { id: 'f1' }, status: '200' },
  { id: 'jobs-listErrors', fill: { id: 'f1' }, status: '200' },
  { id: 'jobs-reportJob', fill: { id: 'f1' }, status: '200' },
  { id: 'jobs-changeJob', fill: { id: 'f1' }, status: '409' },
  { id: 'jobs-cancelJob', fill: { id: 'f1' }, status: '202' },
  { id: 'jobs-retryJob', fill: { id: 'f1' }, status: '409' },
  { id: 'caches-listCaches', status: '200' },
  { id: 'caches-getCache', status: '200' },
  { id: 'caches-getCacheHistory', status: '200' },
  { id: 'caches-pauseCache', status: '200' },
  { id: 'caches-resumeCache', status: '200' },
  { id: 'service-healthz', status: '200' },
  { id: 'service-readyz', status: '200' },
];

test('"Try it out" works for the operations of the page, under its content security policy', {
  skip: chromium === null ? 'no Chromium is installed (Debian: chromium)' : false,
}, async (t) => {
  const api = startApi();
  const browser = await startChromium(chromium as string);
  t.after(async () => {
    await browser.close();
    await api.close();
  });
  api.memory.caches.set('projects', structuredClone(CACHE_EXAMPLE));
  const { page } = browser;
  await page.goto(`${await api.listen()}/docs`);
  const { document } = await openApiDocument({ version: '0.0.0' });
  const paths = [document.paths, document.webhooks].flatMap((group) => Object.values(group ?? {}));
  const operations = paths.flatMap((path) => Object.keys(path ?? {}));
  await page.until(`document.querySelectorAll('.opblock').length === ${operations.length}`);
  for (const [i, step] of STEPS.entries()) {
    assert.equal(await tryOut(page, step), step.status, JSON.stringify(step));
    // With all of them open each step takes the page longer than the one before.
    if (STEPS[i + 1]?.id !== step.id) await page.evaluate(`${summaryOf(step.id)}.click()`);
  }
  assert.deepEqual(page.errors, []);
  assert.equal(api.memory.jobs.length, 4);
  assert.deepEqual(api.memory.find('f2').paths.map(String), ['/run42/out.0', '/run42/out.1']);
  assert.deepEqual(api.memory.find('f3').paths.map(String), ['/run42/out.0']);
  assert.ok(api.log.some(({ url }) => String(url).endsWith(EXAMPLE_JOB_ID)));
});

function summaryOf(id: string): string {
  return `document.getElementById('operations-${id}').querySelector('.opblock-summary-control')`;
}

async function tryOut(
  page: Page,
  { id, fill = {}, bodyType, body }: (typeof STEPS)[number],
): Promise<string> {
  const block = `document.getElementById('operations-${id}')`;
  const open = await page.evaluate(`${block}.classList.contains('is-open')`);
  if (!open) await page.evaluate(`${summaryOf(id)}.click()`);
  await page.until(`${block}.querySelector('.execute')`);
  if (bodyType && body) {
    const select = `${block}.querySelector('.opblock-section-request-body .content-type')`;
    await page.until(select);
    await page.evaluate(typeInto(select, 'HTMLSelectElement', bodyType));
    await page.until(`${block}.querySelector('.body-param__text')?.value === ${JSON.stringify(body)}`);
  }
  for (const [name, value] of Object.entries(fill)) {
    const input = `${block}.querySelector('tr[data-param-name="${name}"] input')`;
    await page.until(input);
    await page.evaluate(typeInto(input, 'HTMLInputElement', value));
  }
  await page.evaluate(`${block}.querySelector('.btn-clear')?.click()`);
  await page.until(`!${block}.querySelector('.live-responses-table')`);
  // What is clicked while the page still draws the operation can be lost; a person is not that fast.
  await page.until(`(() => {
    const { length } = ${block}.innerHTML;
    if (length !== window.drawn?.length) window.drawn = { length, since: Date.now() };
    return Date.now() - window.drawn.since > 500;
  })()`);
  await page.evaluate('delete window.drawn');
  const status = `${block}.querySelector('.live-responses-table tr.response .response-col_status')`;
  await page.evaluate(`${block}.querySelector('.execute').click()`);
  return page.until(`${status} && ${status}.firstChild.textContent.trim()`);
}

/** As React notices it: through the setter of the element's class. */
function typeInto(element: string, type: string, value: string): string {
  return `(() => {
    const element = ${element};
    Object.getOwnPropertyDescriptor(window.${type}.prototype, 'value').set.call(element, ${JSON.stringify(value)});
    // Leaving the field ends the pause after which the page takes over what was typed.
    for (const type of ['input', 'change', 'focusout']) element.dispatchEvent(new Event(type, { bubbles: true }));
  })()`;
}
