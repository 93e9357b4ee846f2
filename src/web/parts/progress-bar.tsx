import type { Job } from '../../model/job.js';
import { filesText } from '../../model/text.js';
import { filesBad, filesProgressText, percentDone, sharesOf } from '../progress.js';

/** How far a job is: good, bad, and what is left. While directories are expanded nobody knows how much is left. */
export function ProgressBar({ job }: { job: Job }) {
  const percent = percentDone(job);
  const bad = filesBad(job.progress);
  const text = `${filesProgressText(job)}${bad > 0 ? `, ${filesText(bad)} not done` : ''}`;
  return (
    <div
      class={percent === null ? 'bar open' : 'bar'}
      role="progressbar"
      aria-label={`Progress of ${job.id}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent ?? undefined}
      aria-valuetext={text}
      title={text}
    >
      {sharesOf(job).map(({ name, part }) => (
        <span key={name} class={`share ${name}`} style={{ width: `${part * 100}%` }} />
      ))}
    </div>
  );
}
