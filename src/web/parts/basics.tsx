import type { ComponentChildren } from 'preact';
import type { JobState } from '../../model/words.js';
import { agoText, now, timeText } from '../time.js';

/** The small things that are on every page. */

/** What is not known is said to be so; it is never 0. */
export function Unknown({ title = 'Not known yet' }: { title?: string }) {
  return (
    <span class="unknown" title={title}>
      <span aria-hidden="true">–</span>
      <span class="hidden-text">{title.toLowerCase()}</span>
    </span>
  );
}

export function Known<T>({
  value,
  show,
  title,
}: {
  value: T | null;
  show: (value: T) => string;
  title?: string;
}) {
  if (value === null) return <Unknown {...(title !== undefined && { title })} />;
  return <>{show(value)}</>;
}

const TONES: Record<string, string> = {
  succeeded: 'good',
  delivered: 'good',
  up: 'good',
  running: 'busy',
  active: 'busy',
  expanding: 'busy',
  partial: 'warn',
  paused: 'warn',
  canceling: 'warn',
  expired: 'warn',
  failed: 'bad',
  down: 'bad',
};

/** A word with the colour of what it means; the word says it all. */
export function Badge({ word, children }: { word: string; children?: ComponentChildren }) {
  return <span class={`badge ${TONES[word] ?? 'idle'}`}>{children ?? word}</span>;
}

export function StateBadge({ state, paused }: { state: JobState; paused: boolean }) {
  return (
    <span class="badges">
      <Badge word={state} />
      {paused && <Badge word="paused" />}
    </span>
  );
}

export function Ago({ time }: { time: string }) {
  return (
    <time dateTime={time} title={timeText(time)}>
      {agoText(time, now.value)}
    </time>
  );
}

export function Callout({ tone, children }: { tone: 'warn' | 'bad' | 'idle'; children: ComponentChildren }) {
  return <div class={`callout ${tone}`}>{children}</div>;
}

/** The key of a shortcut, beside what it does. */
export function Key({ name }: { name: string }) {
  return (
    <span aria-hidden="true">
      <kbd>{name}</kbd>
    </span>
  );
}
