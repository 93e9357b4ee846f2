import { useState } from 'preact/hooks';
import { ServiceError } from '../api.js';
import { say } from '../notice.js';
import { may } from '../session.js';
import { ConfirmDialog } from './dialog.js';

/** Pauses a cache or a node, with a reason, and lets it go on. For whom that is not, there is nothing. */
export function PauseAction({
  what: { name, paused, pausedReason },
  kind,
  sentence,
  pause,
  resume,
}: {
  what: { name: string; paused: boolean; pausedReason: string | null };
  kind: 'cache' | 'node';
  /** What a pause means. */
  sentence: string;
  pause: (reason: string) => Promise<void>;
  resume: () => Promise<void>;
}) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  if (!may('operate')) return null;
  const goOn = async (): Promise<void> => {
    setBusy(true);
    try {
      await resume();
      say(`The ${kind} ${name} goes on.`);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      say(error.message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="actions">
      {paused && (
        <button type="button" class="primary" disabled={busy} onClick={() => void goOn()}>
          Resume<span class="hidden-text"> {name}</span>
        </button>
      )}
      <button type="button" onClick={() => setAsking(true)}>
        {paused ? 'Change the reason' : 'Pause'}
        <span class="hidden-text"> {name}</span>
      </button>
      {asking && (
        <ConfirmDialog
          title={paused ? `Why is ${name} paused?` : `Pause ${name}?`}
          action={paused ? 'Change the reason' : 'Pause it'}
          field={{
            label: 'Why, and until when? Everybody whose job waits reads this.',
            maxLength: 500,
            placeholder: 'Upgrade until 14:00, ask ops',
            value: pausedReason ?? '',
          }}
          onClose={() => setAsking(false)}
          onConfirm={async (reason) => {
            await pause(reason);
            say(`The ${kind} ${name} is paused.`);
          }}
        >
          <p>{sentence}</p>
        </ConfirmDialog>
      )}
    </div>
  );
}
