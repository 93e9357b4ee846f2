import { useState } from 'preact/hooks';
import { ServiceError } from '../api.js';
import { say } from '../notice.js';
import { may } from '../session.js';
import { ConfirmDialog } from './dialog.js';

interface PauseProps {
  what: { name: string; paused: boolean; pausedReason: string | null };
  kind: 'cache' | 'node';
  /** What a pause means. */
  sentence: string;
  pause: (reason: string) => Promise<void>;
  resume: () => Promise<void>;
}

/** Pauses a cache or a node, with a reason, and lets it go on. For whom that is not, there is nothing. */
export function PauseAction(props: PauseProps) {
  const { what, kind, resume } = props;
  const { name, paused } = what;
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
    <>
      {paused && (
        <button type="button" class="primary" disabled={busy} onClick={() => void goOn()}>
          Resume<span class="hidden-text"> {name}</span>
        </button>
      )}
      <button type="button" onClick={() => setAsking(true)}>
        {paused ? 'Change the reason' : 'Pause'}
        <span class="hidden-text"> {name}</span>
      </button>
      {asking && <PauseDialog {...props} onClose={() => setAsking(false)} />}
    </>
  );
}

function PauseDialog({ what, kind, sentence, pause, onClose }: PauseProps & { onClose: () => void }) {
  const { name, paused, pausedReason } = what;
  const [reason, setReason] = useState(pausedReason ?? '');
  return (
    <ConfirmDialog
      title={paused ? `Why is ${name} paused?` : `Pause ${name}?`}
      action={paused ? 'Change the reason' : 'Pause it'}
      ready={reason.trim() !== ''}
      onClose={onClose}
      onConfirm={async () => {
        await pause(reason.trim());
        say(`The ${kind} ${name} is paused.`);
      }}
    >
      <p>{sentence}</p>
      <label>
        Why, and until when? Everybody whose job waits reads this.
        <textarea
          rows={3}
          required
          maxLength={500}
          placeholder="Upgrade until 14:00, ask ops"
          value={reason}
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
    </ConfirmDialog>
  );
}
