import type { ErrorGroup, Job } from '../../model/job.js';
import { countText, filesText, printable } from '../../model/text.js';
import { isTerminalJobState } from '../../model/words.js';
import { listErrors } from '../api.js';
import { usePolled } from '../live.js';
import { Badge, Callout } from '../parts/basics.js';
import { filesBad } from '../progress.js';

const ASK_MS = 3000;

/** What went wrong, by code, with the sentence that helps. */
export function JobErrors({ job, onCode }: { job: Job; onCode: (code: string) => void }) {
  const { progress } = job;
  const any = filesBad(progress) + progress.filesSkipped > 0;
  if (!any) return null;
  return <ErrorGroups job={job} onCode={onCode} />;
}

function ErrorGroups({ job, onCode }: { job: Job; onCode: (code: string) => void }) {
  const ended = isTerminalJobState(job.state);
  const groups = usePolled(`${job.id} ${ended}`, ended ? null : ASK_MS, (signal) =>
    listErrors(job.id, signal),
  );
  return (
    <section class="panel" aria-labelledby="errors">
      <h2 id="errors">Errors</h2>
      {groups.refusal && <Callout tone="bad">{groups.refusal.message}</Callout>}
      {groups.data === undefined ? (
        <p class="empty">Reading the errors …</p>
      ) : (
        <ul class="errors entries">
          {groups.data.map((group) => (
            <Group key={group.code} group={group} onCode={onCode} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Group({ group, onCode }: { group: ErrorGroup; onCode: (code: string) => void }) {
  return (
    <li>
      <div class="entry-head">
        <code class="code">{group.code}</code>
        <span>{filesText(group.count)}</span>
        {group.retryable && <Badge word="idle">a retry may help</Badge>}
        <button type="button" class="quiet" onClick={() => onCode(group.code)}>
          Show {group.count === 1 ? 'it' : 'them'}
        </button>
      </div>
      <p class="help">{group.help}</p>
      {group.samples.length > 0 && (
        <details>
          <summary>
            {group.samples.length === group.count
              ? 'What was tried'
              : `What was tried, ${countText(group.samples.length)} of ${countText(group.count)}`}
          </summary>
          <ul>
            {group.samples.map(({ path, message }) => (
              <li key={path}>
                <code class="path">{printable(path)}</code>
                <br />
                {message}
              </li>
            ))}
          </ul>
        </details>
      )}
    </li>
  );
}
