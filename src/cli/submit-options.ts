import type { Dialect, FlushMode, PathsAre, WebhookEvent } from '../model/words.js';
import { CliError } from './cli-error.js';
import type { ServiceOptions } from './client-options.js';
import { EXIT } from './exit-codes.js';

/** Narrower than what the service takes, and so short that there is room for what tells several exports apart. */
const IDEMPOTENCY_KEY = /^[A-Za-z0-9._~:+/=@-]{1,100}$/;

/** Only with `--transfer`. */
export interface TransferOptions {
  transfer?: boolean;
  node?: string;
  to?: string;
  scrFile?: string;
  limit?: number;
  cpu?: number;
  verify?: boolean;
}

/** For the hooks of schedulers. */
export interface HookOptions {
  /** A batch job, or true: the one that the environment names. */
  later?: string | true;
  request?: string;
  as?: string;
  epilog?: boolean;
  within?: number;
}

/** What `writeback submit` takes. */
export interface SubmitOptions extends ServiceOptions, TransferOptions, HookOptions {
  filesFrom?: string;
  nul?: boolean;
  directory?: string[];
  include?: string[];
  exclude?: string[];
  cache?: string;
  export?: string;
  pathsAre?: PathsAre;
  dialect?: Dialect;
  mode?: FlushMode;
  sync?: boolean;
  label?: string[];
  fileTimeout?: number;
  deadline?: number;
  webhook?: string;
  webhookEvent?: WebhookEvent[];
  idempotencyKey?: string;
  join?: boolean;
  wait: boolean;
  waitTimeout?: number;
  json?: boolean;
}

/** @throws {CliError} usage */
export function checkIdempotencyKey({ idempotencyKey }: SubmitOptions): void {
  if (idempotencyKey === undefined || IDEMPOTENCY_KEY.test(idempotencyKey)) return;
  throw new CliError(
    '--idempotency-key takes 1 to 100 letters, digits or ._~:+/=@-, e.g. the id of a job of the scheduler.',
    EXIT.usage,
  );
}
