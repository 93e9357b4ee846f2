import { signal } from '@preact/signals';
import type { Principal } from '../model/principal.js';
import { hasRole, type PrincipalRole } from '../model/words.js';

/** Who looks at the page. The token lives as long as the tab and is sent to this service only. */

const KEY = 'writeback-token';
export type Me = Pick<Principal, 'name' | 'role'>;

export const me = signal<Me | null>(null);
/** What the sign-in form says; null: no form is needed. */
export const signInWanted = signal<string | null>(null);

let token = sessionStorage.getItem(KEY);

export function hasToken(): boolean {
  return token !== null;
}

export function authorization(): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

export function signIn(value: string): void {
  token = value;
  sessionStorage.setItem(KEY, value);
  signInWanted.value = null;
}

/** Forgets who it was. */
export function signOut(why: string): void {
  token = null;
  sessionStorage.removeItem(KEY);
  me.value = null;
  signInWanted.value = why;
}

/** What is not allowed is not offered; the service refuses it all the same. */
export function may(needed: PrincipalRole): boolean {
  return me.value !== null && hasRole(me.value.role, needed);
}
