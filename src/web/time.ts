import { signal } from '@preact/signals';
import { durationText } from '../model/text.js';
import { visible } from './connection.js';

/** Moves once a second, while somebody looks. */
export const now = signal(Date.now());

setInterval(() => {
  if (visible.value) now.value = Date.now();
}, 1000);

/** `5 s ago`, `3 min ago`, `2 h ago`, then the date. */
export function agoText(time: string, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(time)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString(undefined, { dateStyle: 'medium' });
}

/** `now`, `in 5 s`, `in 3 min 04 s`. */
export function inText(time: string, nowMs: number): string {
  const seconds = Math.round((Date.parse(time) - nowMs) / 1000);
  if (seconds <= 0) return 'now';
  return seconds < 10 ? `in ${seconds} s` : `in ${durationText(seconds)}`;
}

export function timeText(time: string): string {
  return new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** How long it took from one time to another (null: until now). */
export function spanText(from: string, to: string | null, nowMs: number): string {
  const seconds = Math.max(0, ((to === null ? nowMs : Date.parse(to)) - Date.parse(from)) / 1000);
  if (to !== null && seconds < 0.05) return 'under 0.1 s';
  // What still grows has no tenths that would stand still.
  return to === null && seconds < 10 ? `${Math.floor(seconds)} s` : durationText(seconds);
}
