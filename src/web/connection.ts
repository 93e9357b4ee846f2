import { signal } from '@preact/signals';

/** Whether the service can be reached, for the whole page. While it cannot, nothing is asked but whether it is back. */

/** Why it cannot; null: it can. */
export const outage = signal<string | null>(null);
/** Grows each time the service is back: what was being asked is to be asked anew. */
export const returns = signal(0);
/** A tab that nobody looks at asks nothing. */
export const visible = signal(document.visibilityState === 'visible');

const PROBE_MS = [1000, 2000, 3000, 5000];
const PROBE_TIMEOUT_MS = 5000;

document.addEventListener('visibilitychange', () => {
  visible.value = document.visibilityState === 'visible';
  if (visible.value && outage.value !== null) probeSoon(0);
});

let timer: ReturnType<typeof setTimeout> | undefined;

export function reportOutage(why: string): void {
  if (outage.value === null) probeSoon(0);
  outage.value = why;
}

function probeSoon(tries: number): void {
  clearTimeout(timer);
  timer = setTimeout(() => void probe(tries), PROBE_MS[Math.min(tries, PROBE_MS.length - 1)]);
}

async function probe(tries: number): Promise<void> {
  if (!visible.value) return;
  try {
    const answer = await fetch('/readyz', {
      cache: 'no-store',
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    if (!answer.ok) return probeSoon(tries + 1);
    outage.value = null;
    returns.value += 1;
  } catch {
    probeSoon(tries + 1);
  }
}
