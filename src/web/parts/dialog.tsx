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

/** Asks before something is done, with a sentence of the person's own if `field` wants one. */
export function ConfirmDialog({
  title,
  children,
  action,
  danger,
  field,
  onConfirm,
  onClose,
}: {
  title: string;
  children: ComponentChildren;
  /** What the button says. */
  action: string;
  danger?: boolean;
  field?: { label: string; maxLength: number; placeholder: string; value: string };
  /** @throws {Refusal} whose sentence is shown; the dialog stays */
  onConfirm: (text: string) => Promise<void>;
  onClose: () => void;
}) {
  const [text, setText] = useState(field?.value ?? '');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');
  const fieldId = useId();

  const confirm = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    try {
      await onConfirm(text.trim());
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
      <form class="stack" onSubmit={(event) => void confirm(event)}>
        <div class="said">{children}</div>
        {field && (
          <label for={fieldId}>
            {field.label}
            <textarea
              id={fieldId}
              rows={3}
              required
              maxLength={field.maxLength}
              placeholder={field.placeholder}
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          </label>
        )}
        <p class="problem" role="alert">
          {problem}
        </p>
        <div class="actions">
          <button type="button" onClick={onClose}>
            Leave it
          </button>
          <button
            type="submit"
            class={danger === true ? 'danger' : 'primary'}
            disabled={busy || (field !== undefined && text.trim() === '')}
          >
            {action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
