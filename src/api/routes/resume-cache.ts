import type { RouteContext } from '../deps.js';
import { CACHE, resumeOperation } from '../pausing.js';

/** POST /v1/caches/{name}/resume */
export function resumeCache({ store }: RouteContext) {
  return resumeOperation(CACHE, (name) => store.resumeCache(name));
}
