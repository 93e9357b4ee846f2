import type { ApiErrorCode } from '../model/errors.js';
import type { FlushRequest } from '../model/flush-request.js';
import type { Cache, CacheHistory, ErrorGroup, Job, JobFile } from '../model/job.js';
import type { Node } from '../model/node.js';
import { EXAMPLE_JOB_ID } from '../model/request-fields.js';
import type { TransferRequest } from '../model/transfer-request.js';
import type { Delivery } from '../model/webhook.js';

/** Examples of the OpenAPI document. Tests check them against the schemas they stand beside. */

export const FLUSH_EXAMPLES: Record<string, { summary: string; value: FlushRequest }> = {
  files: {
    summary: 'Two files of a configured cache',
    value: {
      cache: 'projects',
      export: '/exp1',
      files: ['/run42/out.0', '/run42/out.1'],
      labels: { run: '42' },
    },
  },
  directory: {
    summary: 'All checkpoints below a directory, within two hours',
    value: {
      cache: 'projects',
      export: '/exp1',
      directories: [{ path: '/run42/checkpoints', include: ['**/*.h5'], exclude: ['**/*.tmp'] }],
      deadlineSeconds: 7200,
    },
  },
  address: {
    summary: 'A plain NFS server, named by its address',
    value: { cache: '127.0.0.1', export: '/exp', files: ['/a.dat'], dialect: 'rfc1813' },
  },
};

export const LIST_EXAMPLES = {
  text: { lines: { summary: 'One path per line', value: '/run42/out.0\n/run42/out.1\n' } },
  ndjson: { line: { summary: 'One line of the list', value: '/run42/out.0' } },
};

export const JOB_EXAMPLE: Job = {
  principal: 'alice',
  id: EXAMPLE_JOB_ID,
  kind: 'flush',
  state: 'running',
  paused: false,
  pausedReason: null,
  statusDetail: null,
  warnings: [],
  cache: 'projects',
  export: '/exp1',
  node: null,
  labels: { run: '42' },
  options: {
    pathsAre: 'export',
    clientMount: null,
    dialect: 'hpc-cache',
    mode: 'async',
    fileTimeoutSeconds: 3600,
    deadlineSeconds: 86400,
  },
  webhook: null,
  parentJobId: null,
  createdAt: '2026-01-31T12:00:00.000Z',
  startedAt: '2026-01-31T12:00:00.040Z',
  finishedAt: null,
  deadlineAt: '2026-02-01T12:00:00.000Z',
  goneAt: null,
  progress: {
    filesTotal: 1000,
    filesTotalFinal: true,
    filesPending: 320,
    filesActive: 256,
    filesSucceeded: 423,
    filesAlreadyClean: 12,
    filesFailed: 1,
    filesSkipped: 0,
    filesCanceled: 0,
    filesExpired: 0,
    bytesTotal: null,
    bytesDone: 44_354_764_800,
    filesPerSecond: 410.2,
    bytesPerSecond: 43_012_358_144,
    etaSeconds: 1.4,
    faults: 3,
    updatedAt: '2026-01-31T12:00:01.070Z',
  },
};

export const QUEUED_JOB_EXAMPLE: Job = {
  ...JOB_EXAMPLE,
  state: 'queued',
  startedAt: null,
  progress: {
    ...JOB_EXAMPLE.progress,
    filesTotal: 2,
    filesPending: 2,
    filesActive: 0,
    filesSucceeded: 0,
    filesAlreadyClean: 0,
    filesFailed: 0,
    bytesDone: 0,
    filesPerSecond: null,
    bytesPerSecond: null,
    etaSeconds: null,
    faults: 0,
    updatedAt: '2026-01-31T12:00:00.000Z',
  },
};

export const TRANSFER_EXAMPLES: Record<string, { summary: string; value: TransferRequest }> = {
  files: {
    summary: 'A checkpoint from the local disk of a node, at 50 MiB/s',
    value: {
      node: 'n042',
      files: [{ source: '/local/run42/ckpt.0', destination: '/lustre/run42/ckpt.0' }],
      limits: { bytesPerSecond: 52_428_800 },
      labels: { run: '42' },
    },
  },
  directory: {
    summary: 'Everything below a directory, compared after the copy',
    value: {
      node: 'n042',
      directories: [{ source: '/local/run42', destination: '/lustre/run42', exclude: ['**/*.tmp'] }],
      verify: true,
    },
  },
  scr: {
    summary: 'What an SCR transfer file lists',
    value: { node: 'n042', scrTransferFile: '/local/scr/transfer.scr' },
  },
};

export const TRANSFER_LIST_EXAMPLES = {
  lines: {
    summary: 'One object per line',
    value:
      '{"source":"/local/run42/a","destination":"/lustre/run42/a"}\n{"source":"/local/run42/b","destination":"/lustre/run42/b","size":1048576}\n',
  },
};

export const TRANSFER_JOB_EXAMPLE: Job = {
  ...QUEUED_JOB_EXAMPLE,
  kind: 'transfer',
  statusDetail:
    'No agent of node n042 is connected (none was ever seen); the job waits for one: writeback serve --role agent --node n042',
  cache: null,
  export: null,
  node: 'n042',
  options: {
    verify: false,
    limits: { bytesPerSecond: 52_428_800, cpuPercent: null },
    scrTransferFile: null,
    fileTimeoutSeconds: 3600,
    deadlineSeconds: 86400,
  },
};

export const FILE_EXAMPLE: JobFile = {
  index: 17,
  path: '/run42/out.17',
  destination: null,
  state: 'failed',
  outcome: null,
  evidence: null,
  attempts: 0,
  size: null,
  mtime: null,
  durationMs: 3.2,
  firstError: {
    code: 'ENOENT',
    nfsStatus: 2,
    phase: 'resolve',
    message: 'LOOKUP of "out.17" in "/run42": no such file (export "/exp1").',
  },
  lastError: {
    code: 'ENOENT',
    nfsStatus: 2,
    phase: 'resolve',
    message: 'LOOKUP of "out.17" in "/run42": no such file (export "/exp1").',
  },
};

export const ERROR_GROUP_EXAMPLE: ErrorGroup = {
  code: 'ENOENT',
  count: 1,
  help: 'No such file. Check the path, and which form it has (pathsAre).',
  retryable: false,
  samples: [
    { path: '/run42/out.17', message: 'LOOKUP of "out.17" in "/run42": no such file (export "/exp1").' },
  ],
};

export const CACHE_EXAMPLE: Cache = {
  name: 'projects',
  configured: true,
  dialect: 'hpc-cache',
  addresses: ['10.1.0.11', '10.1.0.12'],
  exports: ['/exp1'],
  health: 'up',
  healthDetail: null,
  dialectProven: true,
  circuit: { state: 'closed', code: null, reason: null, since: null, retryAt: null, tries: 0 },
  paused: false,
  pausedReason: null,
  limits: { inFlight: 256, filesPerSecond: null },
  slotsLeased: 256,
  limitsConfigured: { inFlight: 256, filesPerSecond: null },
  workers: 2,
  filesQueued: 576,
  filesActive: 256,
  jobsActive: 1,
};

export const NODE_EXAMPLE: Node = {
  name: 'n042',
  connected: true,
  seenAt: '2026-01-31T12:01:02.345Z',
  paused: false,
  pausedReason: null,
  jobsActive: 1,
  filesQueued: 508,
  filesActive: 4,
  bytesQueued: 534_773_760,
};

export const CACHE_HISTORY_EXAMPLE: CacheHistory = {
  items: [
    { at: '2026-01-31T12:00:00.000Z', filesSucceeded: 52_110, filesFailed: 3, bytes: 13_340_160_000 },
    { at: '2026-01-31T12:01:00.000Z', filesSucceeded: 18_400, filesFailed: 0, bytes: 4_710_400_000 },
  ],
  filesPerSecond: 831.2,
  bytesPerSecond: 212_800_000,
};

/** One case of each refusal: what its `detail` says, and where it points. */
export const PROBLEM_EXAMPLES: Record<ApiErrorCode, { detail: string; pointer?: string }> = {
  VALIDATION: {
    detail: '/pathsAre: Invalid option: expected one of "export"|"namespace"|"client".',
    pointer: '/pathsAre',
  },
  MALFORMED: { detail: 'The body is not a JSON object: it ends too early, at byte 117.' },
  EMPTY_LIST: { detail: 'The request names no file and no directory.' },
  PATH_TOO_LONG: { detail: 'Element 17 of "files" has more than 4096 bytes.', pointer: '/files/17' },
  TOO_MANY_FILES: {
    detail: 'The list has more than 5000000 files. Send it in parts, each as a job of its own.',
  },
  BODY_TOO_LARGE: {
    detail:
      'The body has more than 16777216 bytes (after decompression). Send the list itself as text/plain or application/x-ndjson, with the options in the query.',
  },
  UNSUPPORTED_MEDIA_TYPE: {
    detail:
      'The Content-Type is not supported here. Send application/json; a list of files to flush also as text/plain or application/x-ndjson.',
  },
  UNKNOWN_CACHE: {
    detail:
      '"projets" is neither a configured cache (configured: "projects") nor the name of a host that resolves.',
    pointer: '/cache',
  },
  ADDRESS_NOT_ALLOWED: {
    detail:
      '10.9.9.9 is neither an address of a configured cache nor within the networks that requests may name ("127.0.0.0/8", "::1/128"). The setting "adHoc.networks" of the service allows more; a cache that is used often belongs under "caches".',
    pointer: '/cache',
  },
  WEBHOOK_NOT_ALLOWED: {
    detail: 'There is no webhook endpoint "schedular"; the service has "scheduler".',
    pointer: '/webhook',
  },
  UNAUTHENTICATED: {
    detail: 'This service wants a credential: send "Authorization: Bearer TOKEN" with a token of it.',
  },
  PRINCIPAL_UNKNOWN: {
    detail:
      'The credential is valid, but its principal "mallory" stands nowhere in the configuration of the service.',
  },
  ROLE_TOO_LOW: { detail: 'This needs the role operate; the principal "alice" has the role submit.' },
  CACHE_NOT_ALLOWED: {
    detail: 'The principal "alice" may not flush the cache "projects"; it may flush "scratch".',
    pointer: '/cache',
  },
  NODE_NOT_ALLOWED: {
    detail: 'The principal "alice" may not transfer files of the node "n042"; it may of none.',
    pointer: '/node',
  },
  PATH_NOT_ALLOWED: {
    detail:
      'The principal "alice" may flush of the cache "projects" only what lies in "/exp1/alice", named without ".."; "/bob/out.0" does not.',
    pointer: '/files/17',
  },
  CROSS_SITE: { detail: 'A page of another site sent this request. Use a program, or the page at /docs.' },
  UNKNOWN_EXPORT: {
    detail: '"/exp9" is no export of the cache "projects"; it has "/exp1".',
    pointer: '/export',
  },
  JOB_NOT_FOUND: { detail: `There is no job "${EXAMPLE_JOB_ID}".` },
  JOB_GONE: { detail: `The job "${EXAMPLE_JOB_ID}" ended, and its records were kept for 7 days.` },
  JOB_NOT_FINISHED: {
    detail: `The job "${EXAMPLE_JOB_ID}" is running. Cancel it first, or wait for its end.`,
  },
  JOB_ENDED: { detail: `Job ${EXAMPLE_JOB_ID} has ended (succeeded); it moves nothing any more.` },
  NOT_A_TRANSFER: {
    detail: `Job ${EXAMPLE_JOB_ID} is a flush: what a cache may be asked at a time is set in its configuration.`,
  },
  DELIVERY_NOT_FOUND: { detail: `Job ${EXAMPLE_JOB_ID} has no delivery "msg_1".` },
  NOTHING_TO_RETRY: { detail: `No file of the job "${EXAMPLE_JOB_ID}" failed, expired or was canceled.` },
  IDEMPOTENCY_KEY_IN_USE: {
    detail: 'A request with this Idempotency-Key is still arriving. Ask again when it is complete.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    detail:
      'This Idempotency-Key belongs to another request: the files, the cache, the export, the options or the labels differ. A new request needs a new key.',
  },
  CACHE_NOT_FOUND: { detail: 'There is no cache "projets".' },
  NODE_NOT_FOUND: { detail: 'No agent of a node "n24" was ever seen, and no job names it.' },
  NOT_FOUND: { detail: 'There is nothing at /v1/job. The API is described at /docs.' },
  METHOD_NOT_ALLOWED: { detail: 'DELETE is not allowed at /v1/jobs. Allowed: GET, HEAD.' },
  REQUEST_TIMEOUT: { detail: 'No byte of the body came for 30 seconds.' },
  TOO_MANY_WAITERS: {
    detail: '1000 requests are waiting already. Ask again without "Prefer: wait", or later.',
  },
  QUOTA_EXCEEDED: {
    detail: 'The principal "alice" may have 1000000 files waiting at a time. Try again when some are done.',
  },
  RATE_LIMITED: { detail: 'The principal "alice" may send 600 requests a minute. Try again in 41 s.' },
  QUEUE_FULL: {
    detail: 'More files wait for this cache than the service keeps. Try again when some are done.',
  },
  KEYS_UNAVAILABLE: { detail: 'The keys that sign credentials could not be read. Try again in a moment.' },
  STORE_UNAVAILABLE: { detail: 'The job store does not answer. Nothing was accepted; try again.' },
  SHUTTING_DOWN: { detail: 'The service is shutting down and takes no new work. Try again.' },
  INTERNAL: { detail: 'The request could not be answered. The log has the reason under the request id.' },
};

const ATTEMPT_EXAMPLE = { at: '2026-01-31T12:03:20.480Z', durationMs: 38, status: 204, error: null };
export const DELIVERY_EXAMPLE: Delivery = {
  id: 'msg_01m7yx4sqram8jdtvpaw5zrxqv_ended',
  event: 'job.ended',
  to: 'scheduler',
  state: 'delivered',
  createdAt: '2026-01-31T12:03:20.460Z',
  deliveredAt: '2026-01-31T12:03:20.520Z',
  attempts: 1,
  nextAttemptAt: null,
  lastStatus: 204,
  lastError: null,
  log: [ATTEMPT_EXAMPLE],
};
