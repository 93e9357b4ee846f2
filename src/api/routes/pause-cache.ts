import type { RouteContext } from '../deps.js';
import { CACHE, pauseOperation } from '../pausing.js';

/** POST /v1/caches/{name}/pause */
export function pauseCache({ store }: RouteContext) {
  return pauseOperation(CACHE, {
    description: 'No worker takes up more files of this cache until it is resumed; flushes under way go on.',
    reason: 'Core filer upgrade until 14:00, ask ops',
    pause: (name, reason) => store.pauseCache(name, reason),
  });
}
