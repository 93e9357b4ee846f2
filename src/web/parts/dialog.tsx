import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { ServiceError } from '../api.js';

/** A modal dialog: the browser keeps the focus in it, closes it on Escape, and gives the focus back. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog ref={element} aria-labelledby={heading} onClose={onClose}>
      <h2 id={heading}>{title}</h2>
      {children}
    </dialog>
  );
}

/** Asks before something is done; what else it wants to know are fields among the children. */
export function ConfirmDialog({
  title,
  children,
  action,
  danger,
  ready = true,
  instead,
  onConfirm,
  onClose,
}: {
  title: string;
  children: ComponentChildren;
  /** What the button says. */
  action: string;
  danger?: boolean;
  /** Whether the fields have what they need. */
  ready?: boolean;
  /** Another thing to do, whatever is in the fields. */
  instead?: { action: string; onConfirm: () => Promise<void> } | undefined;
  /** @throws {ServiceError} whose sentence is shown; the dialog stays */
  onConfirm: () => Promise<void>;
  onClose: () => void;
}) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');

  const tryTo = async (what: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setProblem('');
    try {
      await what();
      onClose();
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      setProblem(error.message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title={title} onClose={onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void tryTo(onConfirm);
        }}
      >
        {children}
        <p class="problem" role="alert">
          {problem}
        </p>
        <div class="actions">
          <button type="button" onClick={onClose}>
            Leave it
          </button>
          {instead && (
            <button type="button" disabled={busy} onClick={() => void tryTo(instead.onConfirm)}>
              {instead.action}
            </button>
          )}
          <button type="submit" class={danger === true ? 'danger' : 'primary'} disabled={busy || !ready}>
            {action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
