import { z } from 'zod';
import { DIALECTS } from './words.js';

/** A write-back target as the configuration describes it: where it is, how it is asked, and how much it bears. */

const port = z.int().min(1).max(65535);
const id32 = z.int().min(0).max(0xffffffff);

/** AUTH_SYS identity (RFC 5531 appendix A): the server sees at most 16 of `gids`. */
export const credentialSchema = z.strictObject({
  uid: id32.default(0).meta({ description: 'User id that the calls claim.' }),
  gid: id32.default(0).meta({ description: 'Group id that the calls claim.' }),
  gids: z
    .array(id32)
    .max(65536)
    .default([])
    .meta({ description: 'Further groups; a server sees the first 16.' }),
});
export type Credential = z.infer<typeof credentialSchema>;

/** What a cache bears. */
export const cacheLimitsSchema = z.strictObject({
  inFlight: z
    .int()
    .min(1)
    .max(65536)
    .default(256)
    .meta({ description: 'Flushes outstanding on the cache, over all workers.' }),
  filesPerSecond: z
    .number()
    .positive()
    .max(1e9)
    .nullable()
    .default(null)
    .meta({ description: 'Flushes begun per second, over all workers; null: any number.' }),
});
export type CacheLimits = z.infer<typeof cacheLimitsSchema>;

export const cacheConfigSchema = z.strictObject({
  name: z
    .string()
    .regex(
      /^[A-Za-z][A-Za-z0-9_-]{0,62}$/,
      'a cache name is a letter, then letters, digits, "_" or "-", at most 63',
    )
    .meta({ description: 'The name that requests use.' }),
  addresses: z.array(z.string().min(1).max(255)).min(1).max(64).meta({
    description: 'Mount addresses (host names, IPv4 or IPv6); calls are spread over at most 4 and fail over.',
  }),
  dialect: z.enum(DIALECTS).meta({ description: 'How it is asked to write back; never guessed.' }),
  exports: z
    .array(z.string().startsWith('/'))
    .nullable()
    .default(null)
    .meta({ description: 'The exports that jobs may name; null: any that the server lists.' }),
  clientMount: z
    .string()
    .startsWith('/')
    .nullable()
    .default(null)
    .meta({ description: 'Where clients mount the namespace of the cache, for pathsAre: client.' }),
  credential: credentialSchema.prefault({}),
  privilegedPort: z
    .boolean()
    .default(false)
    .meta({ description: 'Call from a source port 665 to 1023 (needs root or CAP_NET_BIND_SERVICE).' }),
  ports: z
    .strictObject({
      portmap: port.default(111).meta({ description: 'TCP port of the portmapper.' }),
      mount: port
        .nullable()
        .default(null)
        .meta({ description: 'Fixed port of MOUNT; null: ask the portmapper.' }),
      nfs: port
        .nullable()
        .default(null)
        .meta({ description: 'Fixed port of NFS; null: ask the portmapper.' }),
    })
    .prefault({})
    .meta({ description: 'Fixed mount and nfs ports make the portmapper unnecessary.' }),
  limits: cacheLimitsSchema.prefault({}),
  breakerFaults: z.int().min(8).max(100_000).nullable().default(64).meta({
    description:
      'Circuit breaker: after so many faults of the storage behind the cache in a row (EIO, ENXIO, ENOSPC, ESERVERFAULT; each try of a file counts) with no file flushed in between, its queue is held and a few files try again, with growing pauses. Null: never.',
  }),
  callTimeoutSeconds: z
    .number()
    .positive()
    .max(3600)
    .default(30)
    .meta({ description: 'After this long without a reply a call is given up and tried again.' }),
});
export type CacheConfig = z.infer<typeof cacheConfigSchema>;
