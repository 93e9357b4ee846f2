import { signal } from '@preact/signals';
import { go } from './route.js';

/**
 * Single keys for those who want them. An element that a key stands for says so by `data-key`; it is clicked, or focused
 * if it is a field. They can be switched off, for people who speak to their computer.
 */

export const SHORTCUTS: readonly { keys: string; does: string }[] = [
  { keys: '?', does: 'Show this help' },
  { keys: 'g j', does: 'Go to the jobs' },
  { keys: 'g c', does: 'Go to the caches' },
  { keys: 'g n', does: 'Go to the nodes' },
  { keys: '/', does: 'Go to the first filter' },
  { keys: 'j', does: 'Next row of a list' },
  { keys: 'k', does: 'Previous row of a list' },
  { keys: 'n', does: 'Next page' },
  { keys: 'p', does: 'Previous page' },
  { keys: 'r', does: 'Retry the job that is shown' },
  { keys: 'x', does: 'Cancel the job that is shown' },
  { keys: 't', does: 'Change the theme' },
  { keys: 'Esc', does: 'Close a dialog' },
];

const PLACES: Record<string, string> = { j: '#/jobs', c: '#/caches', n: '#/nodes' };
const CHORD_MS = 1500;
const KEY = 'writeback-shortcuts';

export const shortcutsOn = signal(localStorage.getItem(KEY) !== 'off');

export function switchShortcuts(on: boolean): void {
  shortcutsOn.value = on;
  localStorage.setItem(KEY, on ? 'on' : 'off');
}

let goAskedAt = Number.NEGATIVE_INFINITY;

export function listenToKeys(): void {
  document.addEventListener('keydown', (event) => {
    if (!shortcutsOn.value || event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return;
    if (document.querySelector('dialog[open]')) return;
    if (act(event.key, event.timeStamp)) event.preventDefault();
  });
}

function isField(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest('input:not([type=checkbox]), select, textarea') !== null;
}

function act(key: string, at: number): boolean {
  const place = at - goAskedAt < CHORD_MS ? PLACES[key] : undefined;
  goAskedAt = key === 'g' ? at : Number.NEGATIVE_INFINITY;
  if (place !== undefined) {
    go(place);
    return true;
  }
  if (key === 'j' || key === 'k') return moveRow(key === 'j' ? 1 : -1);
  const element = document.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]:not(:disabled)`);
  if (element === null) return false;
  if (isField(element)) element.focus();
  else element.click();
  return true;
}

function moveRow(step: 1 | -1): boolean {
  const rows = [...document.querySelectorAll<HTMLElement>('[data-row]')];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  const next = rows[at === -1 ? (step === 1 ? 0 : rows.length - 1) : at + step];
  next?.focus();
  return next !== undefined;
}
