import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Job } from '../../model/job.js';
import { bytesText, countText, durationText, rateText } from '../../model/text.js';
import { FILE_STATES, type FileState, isTerminalJobState } from '../../model/words.js';
import { cancelJob, downloadReport, retryJob, ServiceError } from '../api.js';
import { type LiveJob, useJob } from '../live.js';
import { say } from '../notice.js';
import { Ago, Callout, Key, Known, StateBadge, Unknown } from '../parts/basics.js';
import { ConfirmDialog } from '../parts/dialog.js';
import { ProgressBar } from '../parts/progress-bar.js';
import { bytesProgressText, filesBad, filesProgressText, percentDone } from '../progress.js';
import { go, href, route } from '../route.js';
import { may } from '../session.js';
import { now, spanText, timeText } from '../time.js';
import { JobErrors } from './job-errors.js';
import { type FileFilter, JobFiles } from './job-files.js';
import { JobWebhook } from './job-webhook.js';
import { Labels, whereText } from './jobs-page.js';

/** One job: how far it is, what went wrong and what helps, its files, and what can be done about it. */
export function JobPage({ id }: { id: string }) {
  const live = useJob(id);
  const filter = fileFilter(route.value.query);
  const filterBy = (wanted: FileFilter): void => go(href(['jobs', id], { ...wanted }));
  const show = (wanted: FileFilter): void => {
    filterBy(wanted);
    // They may lie far below what was pressed.
    document.getElementById('files')?.focus();
  };
  const job = live.data;
  useTold(job);
  return (
    <main id="main">
      <p class="crumbs">
        <a href={href(['jobs'])}>Jobs</a> /
      </p>
      <h1 tabIndex={-1} class="id">
        {id}
      </h1>
      {live.refusal && <Callout tone="bad">{live.refusal.message}</Callout>}
      {job === undefined ? (
        !live.refusal && <p class="empty">Reading the job …</p>
      ) : (
        <>
          <div class="headline">
            <StateBadge state={job.state} paused={job.paused} />
            <span class="soft">
              {job.kind} · {whereText(job)}
            </span>
            <Actions job={job} live={live} />
          </div>
          <Told job={job} />
          <Overview job={job} onState={(state) => show({ state })} />
          <JobErrors job={job} onCode={(code) => show({ code })} />
          <JobFiles job={job} filter={filter} onFilter={filterBy} />
          <JobWebhook job={job} />
          <Terms job={job} />
        </>
      )}
    </main>
  );
}

/** In the address of the page, so that a link to what failed can be passed on. */
function fileFilter(query: URLSearchParams): FileFilter {
  return {
    state: FILE_STATES.find((state) => state === query.get('state')),
    code: query.get('code') ?? undefined,
  };
}

/** The title of the tab, and a sentence when it ends. */
function useTold(job: Job | undefined): void {
  const before = useRef<Job['state'] | undefined>(undefined);
  const state = job?.state;
  useEffect(() => {
    if (job === undefined) return;
    const percent = percentDone(job);
    const far = isTerminalJobState(job.state) || percent === null ? job.state : `${percent} %`;
    document.title = `${far} · ${job.id}`;
  });
  useEffect(() => {
    const old = before.current;
    if (state !== undefined && old !== undefined && old !== state && isTerminalJobState(state)) {
      say(`The job has ended: ${state}.`);
    }
    before.current = state;
  }, [state]);
}

function Told({ job }: { job: Job }) {
  return (
    <>
      {job.paused && (
        <Callout tone="warn">
          <strong>Its {job.kind === 'flush' ? 'cache' : 'node'} is paused.</strong>{' '}
          {job.pausedReason ?? 'No reason was given.'}
        </Callout>
      )}
      {job.statusDetail !== null && (
        <Callout tone={isTerminalJobState(job.state) && filesBad(job.progress) > 0 ? 'bad' : 'warn'}>
          {job.statusDetail}
        </Callout>
      )}
      {job.warnings.map(({ code, message, count }) => (
        <Callout key={code} tone="warn">
          <code>{code}</code>
          {count !== null && ` (${countText(count)})`}: {message}
        </Callout>
      ))}
    </>
  );
}

type Asked = 'cancel' | 'retry' | null;

function Actions({ job, live }: { job: Job; live: LiveJob }) {
  const [asked, setAsked] = useState<Asked>(null);
  const ended = isTerminalJobState(job.state);
  const bad = filesBad(job.progress);
  const left = job.progress.filesPending + job.progress.filesActive;
  return (
    <div class="actions">
      {may('submit') && !ended && (
        <button
          type="button"
          class="danger"
          data-key="x"
          aria-keyshortcuts="x"
          disabled={job.state === 'canceling'}
          onClick={() => setAsked('cancel')}
        >
          Cancel <Key name="x" />
        </button>
      )}
      {may('submit') && ended && bad > 0 && (
        <button
          type="button"
          class="primary"
          data-key="r"
          aria-keyshortcuts="r"
          onClick={() => setAsked('retry')}
        >
          Retry {countText(bad)} <Key name="r" />
        </button>
      )}
      <Report job={job} />
      {asked === 'cancel' && (
        <ConfirmDialog
          title="Cancel this job?"
          action="Cancel the job"
          danger
          onClose={() => setAsked(null)}
          onConfirm={async () => {
            const canceled = await cancelJob(job.id);
            // Its end may have been told before the answer came.
            live.update((known) => (isTerminalJobState(known.state) ? known : canceled));
          }}
        >
          <p>
            {countText(left)} files that are not done are not begun, or not waited for. What is done stays
            done. They can be retried later.
          </p>
        </ConfirmDialog>
      )}
      {asked === 'retry' && (
        <ConfirmDialog
          title="Retry what did not succeed?"
          action={`Retry ${countText(bad)}`}
          onClose={() => setAsked(null)}
          onConfirm={async () => {
            const retried = await retryJob(job.id);
            say(`A new job tries ${countText(bad)} again.`);
            go(href(['jobs', retried.id]));
          }}
        >
          <p>
            A new job is made of the {countText(bad)} files that failed, expired or were canceled, with the
            same options and labels. This one stays as it is.
          </p>
        </ConfirmDialog>
      )}
    </div>
  );
}

const REPORTS = [
  { format: 'csv', scope: 'failed', text: 'Not done, CSV' },
  { format: 'csv', scope: 'all', text: 'All files, CSV' },
  { format: 'ndjson', scope: 'failed', text: 'Not done, NDJSON' },
  { format: 'ndjson', scope: 'all', text: 'All files, NDJSON' },
];

function Report({ job }: { job: Job }) {
  const menu = useRef<HTMLDetailsElement>(null);
  const close = (): void => {
    if (menu.current) menu.current.open = false;
  };
  const download = async (format: string, scope: string): Promise<void> => {
    close();
    menu.current?.querySelector('summary')?.focus();
    try {
      await downloadReport(job.id, format, scope);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      say(error.message);
    }
  };
  return (
    <details
      class="menu"
      ref={menu}
      onFocusOut={({ relatedTarget, currentTarget }) => {
        if (relatedTarget instanceof Node && !currentTarget.contains(relatedTarget)) close();
      }}
      onKeyDown={({ key, currentTarget }) => {
        if (key !== 'Escape' || !currentTarget.open) return;
        close();
        currentTarget.querySelector('summary')?.focus();
      }}
    >
      <summary class="button">Report ↓</summary>
      <ul class="panel">
        {REPORTS.map(({ format, scope, text }) => (
          <li key={text}>
            <button type="button" class="quiet" onClick={() => void download(format, scope)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}

const COUNTS: { state: FileState; of: (progress: Job['progress']) => number }[] = [
  { state: 'succeeded', of: (progress) => progress.filesSucceeded },
  { state: 'failed', of: (progress) => progress.filesFailed },
  { state: 'expired', of: (progress) => progress.filesExpired },
  { state: 'canceled', of: (progress) => progress.filesCanceled },
  { state: 'skipped', of: (progress) => progress.filesSkipped },
  { state: 'active', of: (progress) => progress.filesActive },
  { state: 'pending', of: (progress) => progress.filesPending },
];

function Overview({ job, onState }: { job: Job; onState: (state: FileState) => void }) {
  const { progress } = job;
  const percent = percentDone(job);
  const ended = isTerminalJobState(job.state);
  return (
    <section class="panel" aria-label="Progress">
      <div class="big">
        {ended ? (
          <>
            <span class="number">
              {countText(progress.filesSucceeded)} of {countText(progress.filesTotal)}
            </span>
            <span class="soft">files succeeded</span>
          </>
        ) : (
          <>
            <span class="number">
              <Known value={percent} show={(known) => `${known} %`} title="The total is not known yet" />
            </span>
            <span class="soft">{filesProgressText(job)}</span>
          </>
        )}
      </div>
      <ProgressBar job={job} />
      <ul class="legend">
        {COUNTS.filter(({ of }) => of(progress) > 0).map(({ state, of }) => (
          <li key={state}>
            <button
              type="button"
              class="quiet"
              onClick={() => onState(state)}
              title={`Show the files that are ${state}`}
            >
              <span class={`dot ${state}`} aria-hidden="true" />
              {countText(of(progress))} {state}
            </button>
            {state === 'succeeded' && progress.filesAlreadyClean > 0 && (
              <span class="soft">({countText(progress.filesAlreadyClean)} had nothing to write) </span>
            )}
          </li>
        ))}
      </ul>
      <dl class="tiles">
        <Tile name={ended ? 'Files/s, average' : 'Files/s'}>
          <Known value={progress.filesPerSecond} show={rateText} />
        </Tile>
        <Tile name={ended ? 'Bytes/s, average' : 'Bytes/s'}>
          <Known value={progress.bytesPerSecond} show={(rate) => `${bytesText(Math.round(rate))}/s`} />
        </Tile>
        <Tile name="Bytes">{bytesProgressText(progress)}</Tile>
        <Tile name={ended ? 'Took' : 'Time left'}>
          {ended ? (
            spanText(job.startedAt ?? job.createdAt, job.finishedAt, now.value)
          ) : (
            <Known value={progress.etaSeconds} show={durationText} />
          )}
        </Tile>
        <Tile name={ended ? 'Waited before' : 'Running for'}>
          {job.startedAt === null ? (
            <Unknown title={ended ? 'Never started' : 'Not started yet'} />
          ) : ended ? (
            spanText(job.createdAt, job.startedAt, now.value)
          ) : (
            spanText(job.startedAt, null, now.value)
          )}
        </Tile>
        <Tile name="Failed attempts">{countText(progress.faults)}</Tile>
      </dl>
    </section>
  );
}

function Tile({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** What was asked for. */
function Terms({ job }: { job: Job }) {
  return (
    <section class="panel" aria-labelledby="terms">
      <h2 id="terms">What was asked for</h2>
      <dl class="facts">
        {job.cache !== null && (
          <>
            <dt>Cache</dt>
            <dd>
              <a href={href(['caches', job.cache])}>{job.cache}</a>, export <code>{job.export}</code>
            </dd>
          </>
        )}
        {job.node !== null && (
          <>
            <dt>Node</dt>
            <dd>
              <a href={href(['nodes'])}>{job.node}</a>
            </dd>
          </>
        )}
        {Object.keys(job.labels).length > 0 && (
          <>
            <dt>Labels</dt>
            <dd>
              <Labels labels={job.labels} />
            </dd>
          </>
        )}
        {job.parentJobId !== null && (
          <>
            <dt>Retries</dt>
            <dd>
              <a class="id" href={href(['jobs', job.parentJobId])}>
                {job.parentJobId}
              </a>
            </dd>
          </>
        )}
        <dt>By</dt>
        <dd>{job.principal}</dd>
        <dt>Created</dt>
        <dd>
          {timeText(job.createdAt)} (<Ago time={job.createdAt} />)
        </dd>
        <dt>Deadline</dt>
        <dd>{timeText(job.deadlineAt)}</dd>
        {job.goneAt !== null && (
          <>
            <dt>Kept until</dt>
            <dd>{timeText(job.goneAt)}</dd>
          </>
        )}
        {optionsOf(job).map(([name, value]) => (
          <>
            <dt key={name}>{name}</dt>
            <dd>{value}</dd>
          </>
        ))}
      </dl>
    </section>
  );
}

function optionsOf(job: Job): [string, string][] {
  const shown: [string, string][] = [];
  for (const [name, value] of Object.entries(job.options)) {
    if (value === null || typeof value === 'object') continue;
    shown.push([name, String(value)]);
  }
  if ('limits' in job.options) {
    const { bytesPerSecond, cpuPercent } = job.options.limits;
    shown.push(['Limit', bytesPerSecond === null ? 'none of its own' : `${bytesText(bytesPerSecond)}/s`]);
    if (cpuPercent !== null) shown.push(['CPU limit', `${cpuPercent} % of one CPU`]);
  }
  return shown;
}
