import type { Job } from '../model/job.js';
import type { JobOwner } from '../model/principal.js';
import { isTerminalJobState } from '../model/words.js';
import { Caches } from './caches.js';
import { Commands, guarded } from './commands.js';
import { connectFailingFast, disconnect, untilReady } from './connect.js';
import { Deliveries } from './deliveries.js';
import { errorGroups } from './errors.js';
import { Subscriptions } from './events.js';
import { Files } from './files.js';
import { checkHealth } from './health.js';
import { Intake } from './intake.js';
import { isJobId } from './job-id.js';
import { formerOwner } from './job-record.js';
import { Jobs } from './jobs.js';
import { Keys, nodeQueueName } from './keys.js';
import { Nodes } from './nodes.js';
import { PolledJobs } from './polled-jobs.js';
import { Queues } from './queue.js';
import { retryJob } from './retry.js';
import type { JobStoreOptions } from './settings.js';
import { type JobIntake, type JobStore, type Revision, UNKNOWN_ORIGIN } from './types.js';
import { Waiters } from './waiters.js';

const READY_WAIT_MS = 2000;

/**
 * The store as the API uses it. Redis need not be there yet: until it is, every method throws STORE_UNAVAILABLE.
 * @throws {TypeError} for a Redis URL or key prefix that cannot be
 */
export async function openJobStore(options: JobStoreOptions): Promise<JobStore> {
  const keys = new Keys(options.keyPrefix);
  const redis = connectFailingFast(options.redis, 'writeback-api');
  const commands = new Commands(redis, keys);
  const queues = new Queues(commands);
  const subscriptions = new Subscriptions(options.redis);
  const waiters = new Waiters(commands, subscriptions);
  const jobs = new Jobs(commands);
  const files = new Files(commands);
  const deliveries = new Deliveries(commands, queues, jobs);
  const caches = new Caches(commands, queues, options.caches);
  const nodes = new Nodes(commands, queues);
  const polled = new PolledJobs((id) => jobs.get(id));
  const load = (id: string, queue: string): Promise<Job> => guarded(() => jobs.get(id, queue));
  const openIntake = (owner: JobOwner, origin = UNKNOWN_ORIGIN): JobIntake =>
    new Intake(commands, queues, options, owner, origin, load);
  const revisionOf = async (id: string): Promise<Revision & { queue: string }> => {
    const found = isJobId(id) ? await waiters.revision(id) : undefined;
    if (!found) throw await jobs.missing(id);
    return found;
  };
  // What was told while the subscription was away is not known.
  subscriptions.listen(
    keys.changes,
    (message) => polled.told(message),
    () => polled.forgetAll(),
  );
  redis.on('close', () => polled.forgetAll());
  await untilReady(redis, READY_WAIT_MS);

  return {
    openIntake,
    getJob: (id) => guarded(() => polled.read(id)),
    pollJob: (id) => guarded(() => polled.poll(id)),
    ownerOf: (id) => guarded(() => jobs.ownerOf(id)),
    getRevision: (id) =>
      guarded(async () => {
        const { revision, state } = await revisionOf(id);
        return { revision, state };
      }),
    waitForChange: (id, since, untilTerminal, signal) =>
      guarded(async () => {
        const { revision, state, queue } = await revisionOf(id);
        if (isTerminalJobState(state) || (!untilTerminal && revision !== since)) return;
        await waiters.wait(id, since, untilTerminal, queue, signal);
      }),
    lastPlace: () => guarded(() => jobs.lastPlace()),
    changedSince: (place, limit) => guarded(() => jobs.changedSince(place, limit)),
    watchChanges: (onChange) =>
      subscriptions.listen(
        keys.changes,
        (message) => {
          if (message.startsWith('job ')) onChange();
        },
        onChange,
      ),
    listJobs: (filter, cursor, limit) => guarded(() => jobs.list(filter, cursor, limit)),
    listFiles: (id, filter, cursor, limit) =>
      guarded(async () => {
        await revisionOf(id);
        return files.list(id, filter, cursor, limit);
      }),
    errorGroups: (id) =>
      guarded(async () => {
        await revisionOf(id);
        return errorGroups(commands, files, id);
      }),
    listDeliveries: (id) => guarded(() => deliveries.list(id)),
    resend: (id, deliveryId) => guarded(() => deliveries.resend(id, deliveryId)),
    cancel: (id) =>
      guarded(async () => {
        await jobs.cancel(id);
        polled.forget(id);
        return jobs.get(id);
      }),
    setLimits: (id, limits) =>
      guarded(async () => {
        await jobs.setLimits(id, limits);
        polled.forget(id);
        return jobs.get(id);
      }),
    retry: (id, owner, origin, check) =>
      guarded(async () => {
        const row = await jobs.row(id);
        const made = await retryJob(
          commands,
          files,
          row,
          openIntake(owner ?? formerOwner(row), origin),
          check,
        );
        return jobs.get(made.id);
      }),
    filesQueuedOn: (node) =>
      guarded(async () => Number((await redis.hget(keys.cache(nodeQueueName(node)), 'filesQueued')) ?? 0)),
    countRequest: (principal, perMinute) =>
      guarded(async () => Number(await commands.onKeys('wbRequest', [keys.requests(principal)], perMinute))),
    listCaches: () => guarded(() => caches.list()),
    getCache: (name) => guarded(() => caches.get(name)),
    cacheHistory: (name) => guarded(() => caches.history(name)),
    reconfigure: (configured) => caches.reconfigure(configured),
    limitCache: (name, change) => guarded(() => caches.setLimits(name, change)),
    pauseCache: (name, reason) => guarded(() => caches.setPaused(name, true, reason)),
    resumeCache: (name) => guarded(() => caches.setPaused(name, false, '')),
    listNodes: (shows, cursor, limit) => guarded(() => nodes.list(shows, cursor, limit)),
    getNode: (name) => guarded(() => nodes.get(name)),
    pauseNode: (name, reason) => guarded(() => nodes.setPaused(name, true, reason)),
    resumeNode: (name) => guarded(() => nodes.setPaused(name, false, '')),
    health: () => checkHealth(redis),
    async close() {
      waiters.close();
      subscriptions.close();
      await queues.close();
      disconnect(redis);
    },
  };
}
