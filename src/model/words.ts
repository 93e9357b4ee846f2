/**
 * The words of writeback-broker, each set of names listed once: the array feeds the type, the zod enum, the
 * help texts and the OpenAPI document. docs/ARCHITECTURE.md explains them.
 */

/** What a process of the service does: `all` is the API and a worker in one; an `agent` copies for its node. */
export const ROLES = ['all', 'api', 'worker', 'agent'] as const;
export type Role = (typeof ROLES)[number];

/** Who moves the bytes: the cache itself (`flush`), or an agent that copies them (`transfer`). */
export const JOB_KINDS = ['flush', 'transfer'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

/**
 * Job: `queued` → (`expanding`) → `running` → one of the terminal states; `canceling` on the way to `canceled`.
 * All files good → `succeeded`; some good, some bad → `partial`; none good → `failed`; a cancel or the job's
 * deadline came first → `canceled` / `expired`.
 */
export const JOB_STATES = [
  'queued',
  'expanding',
  'running',
  'canceling',
  'succeeded',
  'partial',
  'failed',
  'canceled',
  'expired',
] as const;
export type JobState = (typeof JOB_STATES)[number];
export const TERMINAL_JOB_STATES = ['succeeded', 'partial', 'failed', 'canceled', 'expired'] as const;
export type TerminalJobState = (typeof TERMINAL_JOB_STATES)[number];
export function isTerminalJobState(state: JobState): state is TerminalJobState {
  return (TERMINAL_JOB_STATES as readonly JobState[]).includes(state);
}

/** File: `pending` → `active` → one of the five terminal states. */
export const FILE_STATES = [
  'pending',
  'active',
  'succeeded',
  'failed',
  'skipped',
  'canceled',
  'expired',
] as const;
export type FileState = (typeof FILE_STATES)[number];
const TERMINAL_FILE_STATES = ['succeeded', 'failed', 'skipped', 'canceled', 'expired'] as const;
export type TerminalFileState = (typeof TERMINAL_FILE_STATES)[number];

/**
 * What a success was: the cache wrote it back now, it had nothing to write, we copied it, it was there already.
 * `already_clean` only if the first start of a flush that the job asked for was answered so; where an answer was lost
 * on the way or another worker had the file before, it is `flushed`.
 */
export const FILE_OUTCOMES = ['flushed', 'already_clean', 'copied', 'identical'] as const;
export type FileOutcome = (typeof FILE_OUTCOMES)[number];

/**
 * What an OK is worth, weakest first: `accepted` (a magic COMMIT answered OK by a target that has never shown
 * the dialect), `stable` (RFC 1813 COMMIT), `written-back` (magic COMMIT on a target proven to speak the
 * dialect), `verified` (size and mtime, or content, compared on the permanent store).
 */
export const EVIDENCE = ['accepted', 'stable', 'written-back', 'verified'] as const;
export type Evidence = (typeof EVIDENCE)[number];

/** How a cache is asked to write a file back. Never guessed from a reply. */
export const DIALECTS = ['hpc-cache', 'rfc1813'] as const;
export type Dialect = (typeof DIALECTS)[number];

/** `async`: start a flush and poll it. `sync`: one COMMIT whose reply comes when the file is written back. */
export const FLUSH_MODES = ['async', 'sync'] as const;
export type FlushMode = (typeof FLUSH_MODES)[number];

/** Which name of a file a path is: relative to the export, in the cache's namespace, or on a client that mounted it. */
export const PATHS_ARE = ['export', 'namespace', 'client'] as const;
export type PathsAre = (typeof PATHS_ARE)[number];

/** What becomes of a request when an identical job has not ended: it takes part in that one. */
export const CONFLICT_WAYS = ['join'] as const;

export const REPORT_FORMATS = ['csv', 'ndjson'] as const;
/** Which files of a job a report tells of. */
export const REPORT_SCOPES = ['failed', 'all'] as const;

/** What a webhook can be told of a job: it was begun, its first file failed, it has ended. */
export const WEBHOOK_EVENTS = ['job.started', 'job.failing', 'job.ended'] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];
export const DELIVERY_STATES = ['pending', 'delivered', 'failed'] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** Where in a file's way an error arose. */
export const PHASES = ['intake', 'mount', 'resolve', 'expand', 'flush', 'poll', 'copy', 'verify'] as const;
export type Phase = (typeof PHASES)[number];

/**
 * Each role may what the one before it may. `submit`: make jobs, and see, cancel and retry its own. `operate`: see,
 * cancel and retry all jobs, pause and resume caches. `admin`: change limits of caches.
 */
export const PRINCIPAL_ROLES = ['submit', 'operate', 'admin'] as const;
export type PrincipalRole = (typeof PRINCIPAL_ROLES)[number];

export function hasRole(role: PrincipalRole, needed: PrincipalRole): boolean {
  return PRINCIPAL_ROLES.indexOf(role) >= PRINCIPAL_ROLES.indexOf(needed);
}

/** Whom an operation is for. `public`: whoever reaches the service. */
export type Access = 'public' | PrincipalRole;
