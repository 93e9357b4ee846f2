import type { Dialect, FlushMode, PathsAre } from '../model/words.js';
import type { ServiceOptions } from './client-options.js';

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

/** What `writeback submit` takes. */
export interface SubmitOptions extends ServiceOptions, TransferOptions {
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
  wait: boolean;
  waitTimeout?: number;
  json?: boolean;
}
