/**
 * Slots of a cache that workers hold: each the larger of what it was given and what it uses.
 * @param leases values of the hash that scripts/cache.ts keeps: slots, in use, wanted, end of the lease
 */
export function slotsLeased(leases: readonly string[], now: number): number {
  let sum = 0;
  for (const lease of leases) {
    const [slots = 0, inUse = 0, , endsAt = 0] = lease.split(' ').map(Number);
    if (endsAt > now) sum += Math.max(slots, inUse);
  }
  return sum;
}
