import { z } from 'zod';
import { credentialSchema } from './cache.js';
import { NODE_NAME } from './node.js';
import { hasRole, PRINCIPAL_ROLES } from './words.js';

/**
 * Who sends a request, and what it may do. A principal is the same for every credential that names it: a bearer token
 * or a JWT says who, the configuration says what.
 */

/** Becomes part of keys, and of paths where a prefix has `{name}` in it: no "/". */
export const PRINCIPAL_NAME = /^[A-Za-z0-9][A-Za-z0-9._@:+|=~-]{0,127}$/;
export const PRINCIPAL_NAME_RULE =
  'a principal name is a letter or digit, then letters, digits or ._@:+|=~-, at most 128';
/** What stands for the name of the principal in a prefix or root. */
export const NAME_PLACEHOLDER = '{name}';

const absolutePath = z
  .string()
  .startsWith('/', 'expected an absolute path')
  .regex(/^[^\0]*$/, 'no path has a NUL')
  .refine((path) => !path.split('/').includes('..'), 'a prefix has no ".." in it');

const everywhere = (description: string) => z.array(absolutePath).min(1).default(['/']).meta({ description });
const atMost = (description: string) => z.int().min(1).nullable().default(null).meta({ description });

const quotasSchema = z.strictObject({
  queuedFiles: atMost(
    'Files of all its jobs that wait at the same time; a request that would bring more is refused with 429. What directories hold is added to their job as there is room. Null: no limit.',
  ),
  runningJobs: atMost('Jobs that have not ended at the same time; more are refused with 429.'),
  requestsPerMinute: atMost(
    'Requests of any kind in a minute, over all processes of the service; more are refused with 429.',
  ),
});
export type Quotas = z.infer<typeof quotasSchema>;
export const NO_QUOTAS: Quotas = { queuedFiles: null, runningJobs: null, requestsPerMinute: null };

export const grantsSchema = z.strictObject({
  role: z.enum(PRINCIPAL_ROLES).default('submit').meta({
    description:
      '`submit`: its own jobs. `operate`: also all jobs, and pausing caches. `admin`: also the limits of caches.',
  }),
  caches: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(255).meta({
          description:
            'A cache, or an address within adHoc.networks; `*`: every cache and every such address.',
        }),
        prefixes: everywhere(
          'Directories of the namespace of the cache, the export included; only what lies in one of them may be flushed. `{name}` stands for the name of the principal.',
        ),
      }),
    )
    .max(1000)
    .default([])
    .meta({ description: 'What it may flush. Empty: nothing.' }),
  nodes: z
    .array(
      z.strictObject({
        name: z
          .string()
          .refine((name) => name === '*' || NODE_NAME.test(name), 'expected the name of a node, or "*"')
          .meta({ description: 'A node; `*`: every node.' }),
        sourceRoots: everywhere(
          'Directories of the node from which files may be copied. `{name}` stands for the name of the principal.',
        ),
        destinationRoots: everywhere('Directories into which files may be copied, in the same way.'),
      }),
    )
    .max(1000)
    .default([])
    .meta({ description: 'What it may transfer. Empty: nothing.' }),
  quotas: quotasSchema.prefault({}),
  identity: credentialSchema.nullable().default(null).meta({
    description:
      'The AUTH_SYS identity under which the NFS calls for its jobs are made. Null: the credential of the cache.',
  }),
});
/** What a principal may do, whatever it is called. */
export type Grants = z.infer<typeof grantsSchema>;
export type CacheGrant = Grants['caches'][number];
export type NodeGrant = Grants['nodes'][number];

export interface Principal extends Grants {
  name: string;
}

/** In whose name a job is made. */
export type JobOwner = Pick<Principal, 'name' | 'identity' | 'quotas'>;

/** Who every caller is as long as no credential is configured: whoever reaches this machine's own address. */
export const LOCAL_PRINCIPAL: Principal = {
  name: 'local',
  role: 'admin',
  caches: [{ name: '*', prefixes: ['/'] }],
  nodes: [{ name: '*', sourceRoots: ['/'], destinationRoots: ['/'] }],
  quotas: NO_QUOTAS,
  identity: null,
};

/** A principal sees its own jobs; operators see all. */
export function seesJobsOf({ name, role }: Principal, owner: string): boolean {
  return name === owner || hasRole(role, 'operate');
}
