import type { Job, JobFile } from '../../model/job.js';
import { bytesText, countText, durationText, printable } from '../../model/text.js';
import { FILE_STATES, type FileState, isTerminalJobState } from '../../model/words.js';
import { listFiles } from '../api.js';
import { usePolled } from '../live.js';
import { Badge, Callout, Known } from '../parts/basics.js';
import { Pager, usePages } from '../parts/pager.js';

const PAGE = 50;
const ASK_MS = 3000;

/** What is wanted of the files of a job. */
export interface FileFilter {
  state?: FileState | undefined;
  code?: string | undefined;
}

/** The files of a job in the order of submission, page by page: a job may have millions. */
export function JobFiles({
  job,
  filter,
  onFilter,
}: {
  job: Job;
  filter: FileFilter;
  onFilter: (filter: FileFilter) => void;
}) {
  return (
    <section class="panel" aria-labelledby="files">
      <div class="panel-head">
        <h2 id="files" tabIndex={-1}>
          Files
        </h2>
        <label class="inline">
          State{' '}
          <select
            data-key="/"
            value={filter.state ?? ''}
            onChange={(event) =>
              onFilter({
                ...filter,
                state: (event.currentTarget.value || undefined) as FileState | undefined,
              })
            }
          >
            <option value="">all</option>
            {FILE_STATES.map((state) => (
              <option key={state} value={state}>
                {state}
              </option>
            ))}
          </select>
        </label>
        {filter.code !== undefined && (
          <button type="button" onClick={() => onFilter({ state: filter.state })}>
            only {filter.code} ×<span class="hidden-text"> show all codes</span>
          </button>
        )}
      </div>
      {/* Another filter begins at its first page. */}
      <FileList key={`${filter.state} ${filter.code}`} job={job} filter={filter} />
    </section>
  );
}

function FileList({ job, filter }: { job: Job; filter: FileFilter }) {
  const pages = usePages();
  const { cursor } = pages;
  const ended = isTerminalJobState(job.state);
  const list = usePolled(`${cursor} ${ended}`, ended ? null : ASK_MS, (signal) =>
    listFiles(job.id, filter, cursor, PAGE, signal),
  );
  return (
    <>
      {list.refusal && <Callout tone="bad">{list.refusal.message}</Callout>}
      {list.data === undefined ? (
        <p class="empty">Reading the files …</p>
      ) : (
        <div aria-busy={list.stale}>
          {list.data.items.length === 0 ? (
            <p class="empty">
              {list.data.nextCursor === null ? 'No file is like that.' : 'None so far; go on.'}
            </p>
          ) : (
            <FileTable files={list.data.items} kind={job.kind} />
          )}
          <Pager label="Pages of files" pages={pages} nextCursor={list.stale ? null : list.data.nextCursor} />
        </div>
      )}
    </>
  );
}

function FileTable({ files, kind }: { files: JobFile[]; kind: Job['kind'] }) {
  return (
    <table class="cards files">
      <thead>
        <tr>
          <th>State</th>
          <th class="wide">{kind === 'transfer' ? 'Source and destination' : 'Path'}</th>
          <th>Outcome and evidence</th>
          <th class="number">Size</th>
          <th class="number">Took</th>
          <th class="number">Attempts</th>
        </tr>
      </thead>
      <tbody>
        {files.map((file) => (
          <FileRow key={file.index} file={file} />
        ))}
      </tbody>
    </table>
  );
}

function FileRow({ file }: { file: JobFile }) {
  return (
    <tr>
      <td>
        <Badge word={file.state} />
      </td>
      <td class="wide">
        <code class="path">{printable(file.path)}</code>
        {file.destination !== null && (
          <>
            <br />
            <span class="soft">→ </span>
            <code class="path">{printable(file.destination)}</code>
          </>
        )}
        {file.lastError !== null && (
          <span class="below">
            <code class="code">{file.lastError.code}</code> {printable(file.lastError.message)}
          </span>
        )}
      </td>
      <td data-label="">
        {file.outcome === null ? null : (
          <>
            {file.outcome.replace('_', ' ')}
            {file.evidence !== null && <span class="soft"> · {file.evidence}</span>}
          </>
        )}
      </td>
      <td class="number" data-label="Size">
        <Known value={file.size} show={bytesText} title="Size not known" />
      </td>
      <td class="number" data-label="Took">
        <Known value={file.durationMs} show={(ms) => durationText(ms / 1000)} title="Time not known" />
      </td>
      <td class="number" data-label="Attempts">
        {countText(file.attempts)}
      </td>
    </tr>
  );
}
