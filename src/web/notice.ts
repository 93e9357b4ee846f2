import { signal } from '@preact/signals';

/** One sentence about what has just happened, shown for a while and read out by screen readers. */

export const notice = signal('');

const SHOWN_MS = 8000;
let timer: ReturnType<typeof setTimeout> | undefined;

export function say(sentence: string): void {
  notice.value = sentence;
  clearTimeout(timer);
  timer = setTimeout(() => {
    notice.value = '';
  }, SHOWN_MS);
}
