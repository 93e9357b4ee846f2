import type { RouteContext } from '../deps.js';
import { NODE, pauseOperation } from '../pausing.js';

/** POST /v1/nodes/{name}/pause */
export function pauseNode({ store }: RouteContext) {
  return pauseOperation(NODE, {
    description:
      'Its agent stops copying within seconds, also in mid-file; what is durable stays, and the copies go on from there when the node is resumed.',
    reason: 'The file system is upgraded until 14:00, ask ops',
    pause: (name, reason) => store.pauseNode(name, reason),
  });
}
