import type { RouteContext } from '../deps.js';
import { NODE, resumeOperation } from '../pausing.js';

/** POST /v1/nodes/{name}/resume */
export function resumeNode({ store }: RouteContext) {
  return resumeOperation(NODE, (name) => store.resumeNode(name));
}
