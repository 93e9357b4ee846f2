import { useState } from 'preact/hooks';
import type { Cache } from '../../model/job.js';
import { bytesText, countText, filesText, rateText } from '../../model/text.js';
import { getCacheHistory, listCaches, pauseCache, resumeCache } from '../api.js';
import { type Live, usePolled } from '../live.js';
import { Ago, Badge, Callout, Unknown } from '../parts/basics.js';
import { HistoryChart, type Measure } from '../parts/chart.js';
import { areSame, LimitsAction, limitsText } from '../parts/limits-action.js';
import { PauseAction } from '../parts/pause-action.js';
import { href, route } from '../route.js';
import { may } from '../session.js';
import { inText, now } from '../time.js';

const ASK_MS = 2000;
const ASK_HISTORY_MS = 5000;
/** Charts of more caches at once would be a burden for both sides; the rest is shown on request. */
const CHARTS = 8;

/** The write-back targets: health, what their OK is worth, load against limits, the last hour, pause. */
export function CachesPage() {
  const caches = usePolled('caches', ASK_MS, listCaches);
  const [, only] = route.value.path;
  const shown = caches.data?.filter(({ name }) => only === undefined || name === only);
  return (
    <main id="main">
      {only !== undefined && (
        <p class="crumbs">
          <a href={href(['caches'])}>Caches</a> /
        </p>
      )}
      <h1 tabIndex={-1}>{only ?? 'Caches'}</h1>
      {caches.refusal && <Callout tone="bad">{caches.refusal.message}</Callout>}
      {caches.data === undefined && !caches.refusal && <p class="empty">Reading the caches …</p>}
      {caches.data?.length === 0 && (
        <p class="empty">
          {may('operate') ? (
            <>
              No cache is configured, and no job has named an address yet. Caches stand in the configuration
              file, under <code>caches</code>.
            </>
          ) : (
            'No cache is known whose files you may flush.'
          )}
        </p>
      )}
      {only !== undefined && shown?.length === 0 && <Callout tone="bad">There is no such cache.</Callout>}
      {shown?.map((cache, i) => (
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
        <div class="actions">
          <LimitsAction cache={cache} onChanged={put} />
          <PauseAction
            what={cache}
            kind="cache"
            sentence="No more files are begun; flushes under way go on, jobs are still accepted and wait. Deadlines of jobs go on too."
            pause={async (reason) => put(await pauseCache(cache.name, reason))}
            resume={async () => put(await resumeCache(cache.name))}
          />
        </div>
      </div>
      {cache.paused && (
        <Callout tone="warn">
          <strong>Paused.</strong> {cache.pausedReason ?? 'No reason was given.'}
        </Callout>
      )}
      <Circuit cache={cache} />
      {cache.workers === 0 && <Callout tone="warn">No worker serves it: its jobs wait.</Callout>}
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
        <dt>Limits</dt>
        <dd>
          {limitsText(cache.limits)}
          {!areSame(cache.limits, cache.limitsConfigured) && (
            <span class="soft"> (configured: {limitsText(cache.limitsConfigured)})</span>
          )}
        </dd>
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

/** Why its queue is held, and when it is tried again. */
function Circuit({ cache: { circuit, health, healthDetail } }: { cache: Cache }) {
  if (circuit.state === 'closed' && health !== 'down') return null;
  const { code, reason, since, retryAt, tries } = circuit;
  return (
    <Callout tone="bad">
      <strong>
        {circuit.state === 'half-open'
          ? 'Circuit half-open: some files find out whether it is back.'
          : 'Circuit open: its queue is held.'}
      </strong>{' '}
      {code !== null && <code>{code} </code>}
      {(reason ?? healthDetail ?? 'It does not answer').replace(/\.$/, '')}.{' '}
      <span class="soft">
        {since !== null && (
          <>
            Opened <Ago time={since} />
            {tries > 1 && `, ${countText(tries)} times in a row`}.{' '}
          </>
        )}
        {retryAt !== null && circuit.state === 'open' && `It is tried again ${inText(retryAt, now.value)}.`}
      </span>
    </Callout>
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
  return (
    <div>
      {history.refusal && <Callout tone="bad">{history.refusal.message}</Callout>}
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
