/**
 * Label values are bounded: caches are those of the configuration, and all addresses that requests named share one
 * value, as do all nodes that no agent was ever seen of; states, codes and procedures are fixed lists.
 */
const AD_HOC = 'ad-hoc';

/** All nodes that requests have named and no agent was ever seen of; not the name of any, which has no blank. */
const NEVER_SEEN = 'never seen';

export function nodeLabel(node: string | null): string {
  return node ?? NEVER_SEEN;
}

export function cacheLabel(cache: string | null): string {
  return cache ?? AD_HOC;
}

/** What is not timed finer: a call in one network takes a millisecond, a flush across a link minutes. */
export const RPC_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
export const FLUSH_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];
export const REQUEST_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
