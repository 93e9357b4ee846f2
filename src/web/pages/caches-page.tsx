import { useState } from 'preact/hooks';
import type { Cache } from '../../model/job.js';
import { bytesText, countText, filesText, rateText } from '../../model/text.js';
import { getCacheHistory, listCaches, pauseCache, Refusal, resumeCache, Unreachable } from '../api.js';
import { type Live, usePolled } from '../live.js';
import { say } from '../notice.js';
import { Badge, Callout, Unknown } from '../parts/basics.js';
import { HistoryChart, type Measure } from '../parts/chart.js';
import { ConfirmDialog } from '../parts/dialog.js';
import { href } from '../route.js';
import { may } from '../session.js';

const ASK_MS = 2000;
const ASK_HISTORY_MS = 5000;
/** Charts of more caches at once would be a burden for both sides; the rest is shown on request. */
const CHARTS = 8;

/** The write-back targets: health, what their OK is worth, load against limits, the last hour, pause. */
export function CachesPage() {
  const caches = usePolled('caches', ASK_MS, listCaches);
  return (
    <main id="main">
      <h1 tabIndex={-1}>Caches</h1>
      {caches.refusal && <Callout tone="bad">{caches.refusal.message}</Callout>}
      {caches.data === undefined && !caches.refusal && <p class="empty">Reading the caches …</p>}
      {caches.data?.length === 0 && (
        <p class="empty">
          No cache is configured, and no job has named an address yet. Caches stand in the configuration file,
          under <code>caches</code>.
        </p>
      )}
      {caches.data?.map((cache, i) => (
        <CachePanel key={cache.name} cache={cache} live={caches} chart={i < CHARTS} />
      ))}
    </main>
  );
}

function CachePanel({ cache, live, chart }: { cache: Cache; live: Live<Cache[]>; chart: boolean }) {
  const [open, setOpen] = useState(chart);
  const put = (changed: Cache): void =>
    live.update((all) => all.map((one) => (one.name === changed.name ? changed : one)));
  const id = `cache-${cache.name}`;
  return (
    <section class="panel cache" aria-labelledby={id}>
      <div class="panel-head">
        <h2 id={id}>{cache.name}</h2>
        <Badge word={cache.health}>{cache.health === 'unknown' ? 'not asked yet' : cache.health}</Badge>
        {cache.paused && <Badge word="paused" />}
        <PauseAction cache={cache} onChanged={put} />
      </div>
      {cache.paused && (
        <Callout tone="warn">
          <strong>Paused.</strong> {cache.pausedReason ?? 'No reason was given.'}
        </Callout>
      )}
      {cache.health === 'down' && (
        <Callout tone="bad">{cache.healthDetail ?? 'It does not answer; its queue is held.'}</Callout>
      )}
      <p class="soft">{worthText(cache)}</p>
      <Load cache={cache} />
      {open ? (
        <LastHour cache={cache} />
      ) : (
        <button type="button" onClick={() => setOpen(true)}>
          Show the last hour
        </button>
      )}
      <dl class="facts">
        <dt>Dialect</dt>
        <dd>{cache.dialect}</dd>
        <dt>Addresses</dt>
        <dd>
          <code>{cache.addresses.join(', ')}</code>
        </dd>
        <dt>Exports</dt>
        <dd>
          {cache.exports === null ? 'any that the server lists' : <code>{cache.exports.join(', ')}</code>}
        </dd>
        {!cache.configured && (
          <>
            <dt>Configured</dt>
            <dd>no, jobs have named its address</dd>
          </>
        )}
      </dl>
    </section>
  );
}

function worthText({ dialect, dialectProven }: Cache): string {
  if (dialect === 'rfc1813') return 'Its OK says that a file is on its stable storage (evidence: stable).';
  return dialectProven
    ? 'It has shown that it knows the dialect: its OK says that a file is on the core filer (evidence: written-back).'
    : 'It has not shown yet that it knows the dialect: until then its OK is worth little (evidence: accepted).';
}

function Load({ cache }: { cache: Cache }) {
  const { slotsLeased, limits, filesQueued, filesActive, jobsActive } = cache;
  const part = Math.min(1, slotsLeased / Math.max(1, limits.inFlight));
  return (
    <div class="load">
      <meter
        class="hidden-text"
        aria-label={`Slots of ${cache.name} in use`}
        min={0}
        max={limits.inFlight}
        value={slotsLeased}
      />
      <div class="bar" aria-hidden="true">
        <span class="share moved" style={{ width: `${part * 100}%` }} />
      </div>
      <p>
        <strong>
          {countText(slotsLeased)} of {countText(limits.inFlight)}
        </strong>{' '}
        slots in use · {filesText(filesQueued)} waiting · {countText(filesActive)} in hand ·{' '}
        <a href={href(['jobs'], { cache: cache.name, state: 'open' })}>
          {countText(jobsActive)} open {jobsActive === 1 ? 'job' : 'jobs'}
        </a>
      </p>
    </div>
  );
}

function LastHour({ cache }: { cache: Cache }) {
  const [measure, setMeasure] = useState<Measure>('files');
  const history = usePolled(cache.name, ASK_HISTORY_MS, (signal) => getCacheHistory(cache.name, signal));
  const limit = cache.limits.filesPerSecond;
  if (history.refusal) return <Callout tone="bad">{history.refusal.message}</Callout>;
  return (
    <div>
      <div class="panel-head">
        <p>
          {history.data === undefined ? (
            <Unknown />
          ) : (
            <>
              <strong>{rateText(history.data.filesPerSecond)} files/s</strong>
              {limit !== null && ` of ${rateText(limit)} allowed`} ·{' '}
              {bytesText(Math.round(history.data.bytesPerSecond))}/s{' '}
              <span class="soft">over the last minute</span>
            </>
          )}
        </p>
        <fieldset class="switch">
          <legend class="hidden-text">What the chart of {cache.name} shows</legend>
          {(['files', 'bytes'] as const).map((one) => (
            <label key={one}>
              <input
                type="radio"
                name={`measure-${cache.name}`}
                checked={measure === one}
                onChange={() => setMeasure(one)}
              />
              {one}
            </label>
          ))}
        </fieldset>
      </div>
      {history.data && <HistoryChart items={history.data.items} measure={measure} cache={cache.name} />}
    </div>
  );
}

function PauseAction({ cache, onChanged }: { cache: Cache; onChanged: (cache: Cache) => void }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  if (!may('operate')) return null;
  const resume = async (): Promise<void> => {
    setBusy(true);
    try {
      onChanged(await resumeCache(cache.name));
      say(`Cache ${cache.name} goes on.`);
    } catch (error) {
      if (!(error instanceof Refusal) && !(error instanceof Unreachable)) throw error;
      say(error.message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="actions">
      {cache.paused && (
        <button type="button" class="primary" disabled={busy} onClick={() => void resume()}>
          Resume<span class="hidden-text"> {cache.name}</span>
        </button>
      )}
      <button type="button" onClick={() => setAsking(true)}>
        {cache.paused ? 'Change the reason' : 'Pause'}
        <span class="hidden-text"> {cache.name}</span>
      </button>
      {asking && (
        <ConfirmDialog
          title={cache.paused ? `Why is ${cache.name} paused?` : `Pause ${cache.name}?`}
          action={cache.paused ? 'Change the reason' : 'Pause it'}
          field={{
            label: 'Why, and until when? Everybody whose job waits reads this.',
            maxLength: 500,
            placeholder: 'Core filer upgrade until 14:00, ask ops',
            value: cache.pausedReason ?? '',
          }}
          onClose={() => setAsking(false)}
          onConfirm={async (reason) => {
            onChanged(await pauseCache(cache.name, reason));
            say(`Cache ${cache.name} is paused.`);
          }}
        >
          <p>
            No more files are begun; flushes under way go on, jobs are still accepted and wait. Deadlines of
            jobs go on too.
          </p>
        </ConfirmDialog>
      )}
    </div>
  );
}
