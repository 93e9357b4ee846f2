/** Conditional requests (RFC 9110 §13) and `Prefer: wait` (RFC 7240), as far as a job needs them. */

/** Weak: the rate and the estimate in the answer move without a change of the job. */
export function entityTag(revision: string): string {
  return `W/"${revision}"`;
}

/** True if `If-None-Match` names this tag (weak comparison) or is `*`. */
export function matchesEntityTag(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  if (ifNoneMatch.trim() === '*') return true;
  const opaque = etag.replace(/^W\//, '');
  return ifNoneMatch.split(',').some((candidate) => candidate.trim().replace(/^W\//, '') === opaque);
}

/** Seconds of `Prefer: wait=N`, also among other preferences and in several fields; null without one. */
export function preferredWaitSeconds(prefer: string | string[] | undefined): number | null {
  if (prefer === undefined) return null;
  const fields = Array.isArray(prefer) ? prefer.join(',') : prefer;
  for (const preference of fields.split(',')) {
    const match = /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(;|$)/i.exec(preference);
    if (match) return Number(match[1]);
  }
  return null;
}
