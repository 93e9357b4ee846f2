import { z } from 'zod';
import { grantsSchema, PRINCIPAL_NAME, PRINCIPAL_NAME_RULE } from './principal.js';

/** Which credentials are taken, and what their principals may do. Part of the configuration. */

const file = z.string().startsWith('/', 'expected an absolute path');
const claim = z.string().min(1).max(128);

/** Signed with a private key that the issuer keeps to itself, or with a secret that is shared with it. */
const KEY_PAIR_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'Ed25519',
  'EdDSA',
] as const;
const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'] as const;
export type JwtAlgorithm = (typeof KEY_PAIR_ALGORITHMS)[number] | (typeof SECRET_ALGORITHMS)[number];

const LOOPBACK_URL = /^http:\/\/(127(\.\d{1,3}){3}|\[::1\]|localhost)(:\d+)?\//;

const jwtIssuerSchema = z
  .strictObject({
    issuer: z.string().min(1).nullable().default(null).meta({
      description:
        'The claim `iss` that its JWTs must have. Null: not looked at, only with a secretFile (Slurm sets none).',
    }),
    audience: z.string().min(1).nullable().default(null).meta({
      description:
        'What the claim `aud` must name, so that a JWT for another service is not taken. Null: not looked at, only with a secretFile.',
    }),
    jwksUrl: z
      .url()
      .refine((url) => url.startsWith('https://') || LOOPBACK_URL.test(url), 'expected an https URL')
      .nullable()
      .default(null)
      .meta({
        description:
          'Where the issuer publishes its keys (JWK Set). Kept for 10 minutes, read within 5 seconds.',
      }),
    jwksFile: file.nullable().default(null).meta({
      description: 'The same as a file, read again when it changes.',
    }),
    secretFile: file.nullable().default(null).meta({
      description:
        'A secret shared with the issuer, e.g. the jwt_hs256.key of Slurm: every byte of the file counts, at least 32 of them. Whoever can read it can be anybody.',
    }),
    algorithms: z
      .array(z.enum([...KEY_PAIR_ALGORITHMS, ...SECRET_ALGORITHMS]))
      .min(1)
      .nullable()
      .default(null)
      .meta({
        description: 'Signatures that are taken. Null: RS256 and ES256 for a key set, HS256 for a secret.',
      }),
    principalClaim: claim.default('sub').meta({
      description: 'The claim that is the name of the principal: `sun` for Slurm.',
    }),
    clockToleranceSeconds: z
      .number()
      .min(0)
      .max(300)
      .default(30)
      .meta({ description: 'How far its clock may differ from ours.' }),
    identityClaims: z
      .strictObject({
        uid: claim,
        gid: claim,
        gids: claim.nullable().default(null),
      })
      .nullable()
      .default(null)
      .meta({
        description:
          'Claims with the AUTH_SYS identity of the principal, as numbers. A JWT without them is then refused, and one with uid or gid 0 too. What the configuration says of a principal comes first.',
      }),
  })
  .superRefine((issuer, ctx) => {
    const { jwksUrl, jwksFile, secretFile, algorithms } = issuer;
    const wrong = (path: string, message: string) => ctx.addIssue({ code: 'custom', path: [path], message });
    if ([jwksUrl, jwksFile, secretFile].filter((source) => source !== null).length !== 1) {
      wrong('jwksUrl', 'expected exactly one of jwksUrl, jwksFile and secretFile');
      return;
    }
    if (secretFile === null) {
      for (const key of ['issuer', 'audience'] as const) {
        if (issuer[key] === null)
          wrong(key, 'a key set signs for many services: say which JWTs are for this one');
      }
    }
    const possible: readonly string[] = secretFile === null ? KEY_PAIR_ALGORITHMS : SECRET_ALGORITHMS;
    const other = algorithms?.find((algorithm) => !possible.includes(algorithm));
    if (other !== undefined) {
      wrong('algorithms', `${other} is none for a ${secretFile === null ? 'key set' : 'secret'}`);
    }
  });
export type JwtIssuer = z.infer<typeof jwtIssuerSchema>;

const principalName = z
  .string()
  .regex(PRINCIPAL_NAME, PRINCIPAL_NAME_RULE)
  .meta({ description: 'As tokens and JWTs name it.' });

export const accessConfigSchema = z
  .strictObject({
    tokensFile: file.nullable().default(null).meta({
      description:
        'The file of `writeback token`: digests of bearer tokens, and whose they are. Read again within seconds when it changes; one that is not there holds no token.',
    }),
    jwt: z.array(jwtIssuerSchema).max(16).default([]).meta({
      description: 'Who else issues credentials: JWTs are taken from these.',
    }),
    principals: z
      .array(z.strictObject({ name: principalName, ...grantsSchema.shape }))
      .max(100_000)
      .default([])
      .meta({ description: 'Who is known, and what each may do.' }),
    unknownPrincipals: grantsSchema.nullable().default(null).meta({
      description:
        'What principals may do that a credential names and `principals` does not. Null: nothing, they are refused.',
    }),
    publicMetrics: z
      .boolean()
      .default(false)
      .meta({ description: 'True: /metrics of the API wants no credential.' }),
    insecureWithoutCredentials: z.boolean().default(false).meta({
      description:
        'True: listen on any address although no credential is configured. Then whoever can connect is an administrator; only for a network in which that is meant.',
    }),
  })
  .superRefine(({ principals }, ctx) => {
    const seen = new Set<string>();
    principals.forEach(({ name }, i) => {
      if (seen.has(name)) {
        ctx.addIssue({
          code: 'custom',
          path: ['principals', i, 'name'],
          message: `"${name}" is there twice; give all it may do in one place`,
        });
      }
      seen.add(name);
    });
  });
export type AccessConfig = z.infer<typeof accessConfigSchema>;

export function hasCredentials({ tokensFile, jwt }: AccessConfig): boolean {
  return tokensFile !== null || jwt.length > 0;
}
