import { useState } from 'preact/hooks';
import type { Job } from '../../model/job.js';
import { countText, durationText } from '../../model/text.js';
import type { Delivery } from '../../model/webhook.js';
import { listDeliveries, resendDelivery, ServiceError } from '../api.js';
import { usePolled } from '../live.js';
import { say } from '../notice.js';
import { Ago, Badge, Callout } from '../parts/basics.js';
import { may } from '../session.js';
import { inText, now, timeText } from '../time.js';

const ASK_MS = 2000;

/** Whom the job tells what, and what came of it. */
export function JobWebhook({ job }: { job: Job }) {
  return job.webhook === null ? null : <Deliveries job={job} webhook={job.webhook} />;
}

function Deliveries({ job: { id, state }, webhook }: { job: Job; webhook: NonNullable<Job['webhook']> }) {
  // Asked at once when the job begins or ends: that is what is told.
  const list = usePolled(`${id} ${state}`, ASK_MS, (signal) => listDeliveries(id, signal));
  return (
    <section class="panel" aria-labelledby="webhook">
      <h2 id="webhook">Webhook</h2>
      <p class="soft">
        {webhook.to} is told of {webhook.events.join(', ')}.
      </p>
      {list.refusal && <Callout tone="bad">{list.refusal.message}</Callout>}
      {list.data?.length === 0 && <p>There was nothing to tell yet.</p>}
      {list.data && list.data.length > 0 && (
        <ul class="entries">
          {list.data.map((delivery) => (
            <Entry
              key={delivery.id}
              delivery={delivery}
              resend={async () => {
                const sent = await resendDelivery(id, delivery.id);
                list.update((all) => all.map((one) => (one.id === sent.id ? sent : one)));
              }}
            />
          ))}
        </ul>
      )}
    </section>
  );
}

function Entry({ delivery, resend }: { delivery: Delivery; resend: () => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  const { event, state, attempts, log } = delivery;
  const again = async (): Promise<void> => {
    setBusy(true);
    try {
      await resend();
      say(`${event} is sent again.`);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      say(error.message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <li>
      <div class="entry-head">
        <Badge word={state} />
        <code>{event}</code>
        <Fate delivery={delivery} />
        {may('submit') && (
          <button type="button" class="quiet" disabled={busy} onClick={() => void again()}>
            Send again<span class="hidden-text"> {event}</span>
          </button>
        )}
      </div>
      {log.length > 0 && (
        <details>
          <summary>
            {log.length < attempts
              ? `The newest ${countText(log.length)} of ${countText(attempts)} attempts`
              : attempts === 1
                ? 'The attempt'
                : `${countText(attempts)} attempts`}
          </summary>
          <ul>
            {log.map(({ at, durationMs, status, error }) => (
              <li key={at}>
                {timeText(at)}, {durationText(durationMs / 1000)}: {status === null ? 'no answer' : status}
                {error !== null && <span class="bad-text"> · {error}</span>}
              </li>
            ))}
          </ul>
        </details>
      )}
    </li>
  );
}

function Fate({ delivery: { state, deliveredAt, nextAttemptAt, lastError } }: { delivery: Delivery }) {
  if (state === 'delivered' && deliveredAt !== null) return <Ago time={deliveredAt} />;
  return (
    <span>
      {lastError ?? 'Not tried yet'}
      {state === 'failed' && '. It is given up.'}
      {state === 'pending' && nextAttemptAt !== null && (
        <span class="soft"> · tried {inText(nextAttemptAt, now.value)}</span>
      )}
    </span>
  );
}
