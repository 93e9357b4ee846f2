import type { FaultTable } from './faults.js';
import type { Procedure, ProcedureEntry } from './rpc-server.js';

/** A procedure about no file in particular, under the name that faults and statistics know it by. */
export function procedureEntry(name: string, faults: FaultTable, run: Procedure): ProcedureEntry {
  return {
    name,
    calls: 0,
    run(args, results, call) {
      call.fate = faults.fateOf([name, '*'], null);
      // Whatever is to happen instead of an answer happens instead of the work, too.
      if (typeof call.fate?.instead === 'string') return undefined;
      return run(args, results, call);
    },
  };
}

/** NULL: no arguments, no results. */
export const doNothing: Procedure = (args) => {
  args.finish();
  return undefined;
};
