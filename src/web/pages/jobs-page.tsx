import { useEffect, useState } from 'preact/hooks';
import type { Job } from '../../model/job.js';
import { bytesText, countText, durationText, rateText } from '../../model/text.js';
import { isTerminalJobState, JOB_KINDS, JOB_STATES, TERMINAL_JOB_STATES } from '../../model/words.js';
import { type JobQuery, listCaches, listJobs, type Page } from '../api.js';
import { useJobEvents, usePolled } from '../live.js';
import { Ago, Callout, Known, StateBadge, Unknown } from '../parts/basics.js';
import { Pager, usePages } from '../parts/pager.js';
import { ProgressBar } from '../parts/progress-bar.js';
import { bytesProgressText, filesBad, filesProgressText } from '../progress.js';
import { go, href, route } from '../route.js';
import { me } from '../session.js';
import { now, spanText } from '../time.js';

const PAGE = 50;
const ASK_MS = 3000;
/** While events tell of changes. */
const ASK_RARELY_MS = 20_000;

/** Groups of states by a word, besides the states themselves. */
const GROUPS: Record<string, readonly string[]> = {
  open: JOB_STATES.filter((state) => !isTerminalJobState(state)),
  bad: TERMINAL_JOB_STATES.filter((state) => state !== 'succeeded'),
};

interface Filters {
  state: string;
  kind: string;
  cache: string;
  node: string;
  label: string;
}

/** All jobs, newest first, page by page. */
export function JobsPage() {
  const filters = filtersOf(route.value.query);
  return (
    <main id="main">
      <h1 tabIndex={-1}>Jobs</h1>
      <FilterForm filters={filters} />
      {/* Another filter begins at its first page. */}
      <JobList key={JSON.stringify(filters)} filters={filters} />
    </main>
  );
}

function filtersOf(query: URLSearchParams): Filters {
  const value = (name: string): string => query.get(name) ?? '';
  return {
    state: value('state'),
    kind: value('kind'),
    cache: value('cache'),
    node: value('node'),
    label: value('label'),
  };
}

function queryOf({ state, kind, cache, node, label }: Filters): JobQuery {
  return {
    state: state === '' ? undefined : (GROUPS[state] ?? [state]),
    kind: kind || undefined,
    cache: cache || undefined,
    node: node || undefined,
    label: label || undefined,
  };
}

function FilterForm({ filters }: { filters: Filters }) {
  const caches = usePolled('caches', null, listCaches);
  const change = (part: Partial<Filters>): void => go(href(['jobs'], { ...filters, ...part }));
  const names = new Set([
    ...(caches.data ?? []).map(({ name }) => name),
    ...(filters.cache ? [filters.cache] : []),
  ]);
  const any = Object.values(filters).some((value) => value !== '');
  return (
    <search aria-label="Filters">
      <details class="filters" open={any || matchMedia('(min-width: 60rem)').matches}>
        <summary>Filters</summary>
        <form onSubmit={(event) => event.preventDefault()}>
          <label>
            State
            <select
              data-key="/"
              value={filters.state}
              onChange={(event) => change({ state: event.currentTarget.value })}
            >
              <option value="">all</option>
              <option value="open">not ended</option>
              <option value="bad">ended, not succeeded</option>
              {JOB_STATES.map((state) => (
                <option key={state} value={state}>
                  {state}
                </option>
              ))}
            </select>
          </label>
          <label>
            Kind
            <select value={filters.kind} onChange={(event) => change({ kind: event.currentTarget.value })}>
              <option value="">all</option>
              {JOB_KINDS.map((kind) => (
                <option key={kind} value={kind}>
                  {kind}
                </option>
              ))}
            </select>
          </label>
          <label>
            Cache
            <select value={filters.cache} onChange={(event) => change({ cache: event.currentTarget.value })}>
              <option value="">all</option>
              {[...names].map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <TextFilter
            name="Node"
            value={filters.node}
            placeholder="any"
            onChange={(node) => change({ node })}
          />
          <TextFilter
            name="Label"
            value={filters.label}
            placeholder="key=value"
            pattern="[^=]+=.*"
            onChange={(label) => change({ label })}
          />
          {any && (
            <a class="button quiet" href={href(['jobs'])}>
              Clear
            </a>
          )}
        </form>
      </details>
    </search>
  );
}

/** Takes effect when it is left or Enter is pressed. */
function TextFilter({
  name,
  value,
  placeholder,
  pattern,
  onChange,
}: {
  name: string;
  value: string;
  placeholder: string;
  pattern?: string;
  onChange: (value: string) => void;
}) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return (
    <label>
      {name}
      <input
        type="text"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        placeholder={placeholder}
        pattern={pattern}
        title={pattern === undefined ? undefined : `Like ${placeholder}`}
        autocapitalize="off"
        spellcheck={false}
        onChange={(event) => {
          if (event.currentTarget.reportValidity()) onChange(event.currentTarget.value.trim());
        }}
      />
    </label>
  );
}

function JobList({ filters }: { filters: Filters }) {
  const query = queryOf(filters);
  const pages = usePages();
  const { cursor } = pages;
  const first = pages.at === 0;
  const hearing = useJobEvents(query, (jobs) => {
    const known = new Map(jobs.map((job) => [job.id, job]));
    const shown = new Set(list.data?.items.map(({ id }) => id));
    list.update((page) => ({ ...page, items: page.items.map((job) => known.get(job.id) ?? job) }));
    // New ones are at the top of the first page, and a state may not be what the filter wants any more.
    if ((first && jobs.some(({ id }) => !shown.has(id) && isNewer(id, list.data))) || filters.state !== '')
      list.refreshSoon();
  });
  const list = usePolled(`${cursor}`, hearing ? ASK_RARELY_MS : ASK_MS, (signal) =>
    listJobs(query, cursor, PAGE, signal),
  );

  const refusal = list.refusal && <Callout tone="bad">{list.refusal.message}</Callout>;
  if (list.data === undefined) return refusal ?? <p class="empty">Reading the jobs …</p>;
  const { items, nextCursor } = list.data;
  return (
    <section aria-label="Jobs" aria-busy={list.stale}>
      {refusal}
      {items.length === 0 ? (
        <NoJobs searching={nextCursor !== null} filtered={Object.values(filters).some(Boolean)} />
      ) : (
        <JobTable jobs={items} />
      )}
      <Pager label="Pages of jobs" pages={pages} nextCursor={list.stale ? null : nextCursor} />
    </section>
  );
}

/** Ids sort by the time at which they were made. */
function isNewer(id: string, page: Page<Job> | undefined): boolean {
  const [newest] = page?.items ?? [];
  return newest === undefined || id > newest.id;
}

function NoJobs({ searching, filtered }: { searching: boolean; filtered: boolean }) {
  if (searching) return <p class="empty">None so far among the newest. Older ones are on the next page.</p>;
  if (filtered) return <p class="empty">No job is like that.</p>;
  return (
    <p class="empty">
      No job yet. A first one, by the command line: <code>writeback submit FILE…</code>, or by the{' '}
      <a href="/docs">API</a>.
    </p>
  );
}

function JobTable({ jobs }: { jobs: Job[] }) {
  return (
    <table class="cards">
      <thead>
        <tr>
          <th>State</th>
          <th>Job</th>
          <th>Where</th>
          <th class="wide">Progress</th>
          <th>Rate</th>
          <th>Time left</th>
          <th>Created</th>
        </tr>
      </thead>
      <tbody>
        {jobs.map((job) => (
          <JobRow key={job.id} job={job} />
        ))}
      </tbody>
    </table>
  );
}

function JobRow({ job }: { job: Job }) {
  const { progress } = job;
  const bad = filesBad(progress);
  const ended = isTerminalJobState(job.state);
  return (
    <tr>
      <td>
        <StateBadge state={job.state} paused={job.paused} />
      </td>
      <td class="name">
        <a class="id" data-row href={href(['jobs', job.id])}>
          {job.id}
        </a>
        <Labels labels={job.labels} />
      </td>
      <td>
        <span class="where">{whereText(job)}</span>
        {job.principal !== me.value?.name && <span class="below">by {job.principal}</span>}
      </td>
      <td class="wide">
        <ProgressBar job={job} />
        <span class="below">
          {filesProgressText(job)}
          {job.kind === 'transfer' && ` · ${bytesProgressText(progress)}`}
          {bad > 0 && <span class="bad-text"> · {countText(bad)} not done</span>}
        </span>
      </td>
      <td data-label="Rate">
        <Rate job={job} />
      </td>
      <td data-label={ended ? '' : 'Time left'}>
        {ended ? (
          <span class="soft below-line">
            took {spanText(job.startedAt ?? job.createdAt, job.finishedAt, now.value)}
          </span>
        ) : (
          <span class="below-line">
            <Known value={progress.etaSeconds} show={durationText} />
          </span>
        )}
      </td>
      <td data-label="Created">
        <Ago time={job.createdAt} />
      </td>
    </tr>
  );
}

export function Labels({ labels }: { labels: Record<string, string> }) {
  const entries = Object.entries(labels);
  if (entries.length === 0) return null;
  return (
    <span class="labels">
      {entries.map(([name, value]) => (
        <a
          key={name}
          class="label"
          href={href(['jobs'], { label: `${name}=${value}` })}
          title="Jobs with this label"
        >
          {name}={value}
        </a>
      ))}
    </span>
  );
}

export function whereText(job: Job): string {
  return job.kind === 'flush' ? `${job.cache} ${job.export}` : `node ${job.node}`;
}

function Rate({ job: { kind, progress } }: { job: Job }) {
  const { filesPerSecond, bytesPerSecond } = progress;
  if (filesPerSecond === null && bytesPerSecond === null) return <Unknown />;
  return (
    <>
      {kind === 'flush' && (
        <>
          <span class="below-line">
            <Known value={filesPerSecond} show={(rate) => `${rateText(rate)} files/s`} />
          </span>{' '}
          <br />
        </>
      )}
      <span class={kind === 'flush' ? 'soft below-line' : 'below-line'}>
        <Known value={bytesPerSecond} show={(rate) => `${bytesText(Math.round(rate))}/s`} />
      </span>
    </>
  );
}
