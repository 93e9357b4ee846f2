import { useState } from 'preact/hooks';

/** The pages of a list that is read by cursors. */
export interface Pages {
  /** Where the page that is shown begins; null: at the first. */
  cursor: string | null;
  /** From 0. */
  at: number;
  forward(cursor: string): void;
  back(): void;
}

export function usePages(): Pages {
  /** Cursors of the pages so far; the last one is shown. */
  const [cursors, setCursors] = useState<(string | null)[]>([null]);
  return {
    cursor: cursors.at(-1) ?? null,
    at: cursors.length - 1,
    forward: (cursor) => setCursors((all) => [...all, cursor]),
    back: () => setCursors((all) => (all.length > 1 ? all.slice(0, -1) : all)),
  };
}

/** Previous and next page. */
export function Pager({
  pages: { at, forward, back },
  nextCursor,
  label,
}: {
  pages: Pages;
  /** Null: there is no next page, or it is not known yet. */
  nextCursor: string | null;
  label: string;
}) {
  if (at === 0 && nextCursor === null) return null;
  return (
    <nav class="pager" aria-label={label}>
      {/* Not `disabled`: while a page is read that would take the focus from whoever has just pressed it. */}
      <button type="button" aria-disabled={at === 0} onClick={back} data-key="p" aria-keyshortcuts="p">
        ← Previous
      </button>
      <span>Page {at + 1}</span>
      <button
        type="button"
        aria-disabled={nextCursor === null}
        onClick={() => nextCursor !== null && forward(nextCursor)}
        data-key="n"
        aria-keyshortcuts="n"
      >
        Next →
      </button>
    </nav>
  );
}
