import assert from 'node:assert/strict';
import type { Job } from '../../src/model/job.js';
import type { ApiLimits } from '../../src/model/limits.js';
import { openJobStore } from '../../src/store/store.js';
import type { JobStore } from '../../src/store/types.js';
import { WorkStore } from '../../src/store/work-store.js';
import { type ApiTest, PROJECTS, SCRATCH, startApi } from '../support/api.js';
import { startRedis, type TestRedis } from '../support/redis.js';

export const CACHES = [PROJECTS, SCRATCH];

/** The API over the store it runs with and a Redis of its own. No worker runs: what one would do is done by hand. */
export interface RedisRig {
  redis: TestRedis;
  store: JobStore;
  work: WorkStore;
  api: ApiTest;
  /** Where it listens. */
  base: string;
  /** POSTs a list as text; the id of the job. */
  submit(list: string | Buffer, query?: string): Promise<string>;
  close(): Promise<void>;
}

export async function openRedisRig(limits: Partial<ApiLimits> = {}): Promise<RedisRig> {
  const redis = await startRedis({ durable: true });
  const common = { redis: { url: redis.url, cluster: false }, keyPrefix: 'api' };
  const store = await openJobStore({ ...common, caches: CACHES });
  const work = new WorkStore(common);
  const api = startApi({ store, caches: CACHES, limits });
  return {
    redis,
    store,
    work,
    api,
    base: await api.listen(),
    async submit(list, query = 'cache=scratch&export=/x') {
      const { status, body: job } = await api.json({
        method: 'POST',
        url: `/v1/flushes?${query}`,
        headers: { 'content-type': 'text/plain' },
        payload: list,
      });
      assert.equal(status, 202, JSON.stringify(job));
      return (job as Job).id;
    },
    async close() {
      await api.close();
      await Promise.all([store.close(), work.close()]);
      await redis.stop();
    },
  };
}
