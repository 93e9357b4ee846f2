import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { ServiceClient, type ServiceCredentials } from './service-client.js';
import { parseBytes, parseSeconds } from './text.js';

/** Options that several client commands share, and what becomes of them. */

const DEFAULT_URL = 'http://127.0.0.1:8080';

export interface ServiceOptions {
  url?: string;
  tokenFile?: string;
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}

/** Gives a command the options of `ServiceOptions`. */
export function serviceOptions(command: Command): Command {
  return command
    .addOption(new Option('--url <url>', `where the service is (default: $WRITEBACK_URL, or ${DEFAULT_URL})`))
    .addOption(
      // There is no option for the token itself: every user of the machine sees the command lines of all.
      new Option(
        '--token-file <file>',
        'file with the token or JWT to send (default: $WRITEBACK_TOKEN_FILE, or the token itself in $WRITEBACK_TOKEN)',
      ),
    )
    .addOption(
      new Option(
        '--ca-file <file>',
        'PEM file of the authority that signed the certificate of the service (default: $WRITEBACK_CA_FILE)',
      ),
    )
    .addOption(
      new Option(
        '--cert-file <file>',
        'PEM file of a certificate of our own, where the service wants one (default: $WRITEBACK_CERT_FILE)',
      ),
    )
    .addOption(new Option('--key-file <file>', 'PEM file of its private key (default: $WRITEBACK_KEY_FILE)'));
}

/** Runs a command against the service; its connections end with it. */
export async function withService<T>(
  context: CliContext,
  options: ServiceOptions,
  run: (client: ServiceClient) => Promise<T>,
): Promise<T> {
  const url = options.url ?? (context.env.WRITEBACK_URL || DEFAULT_URL);
  const client = new ServiceClient(url, context.version, context.signal, {
    token: await tokenFor(context, options),
    authorities: await contentOf(options.caFile ?? (context.env.WRITEBACK_CA_FILE || undefined), '--ca-file'),
    certificate: await certificateFor(context, options),
  });
  try {
    return await run(client);
  } catch (error) {
    // Whatever was under way ends at Ctrl-C; a command that has more to say about it has said it.
    if (context.signal.aborted && !(error instanceof CliError)) throw new CliError('', EXIT.interrupted);
    throw error;
  } finally {
    client.close();
  }
}

/** @throws {CliError} usage */
async function tokenFor({ env }: CliContext, options: ServiceOptions): Promise<string | null> {
  const file = options.tokenFile ?? (env.WRITEBACK_TOKEN ? undefined : env.WRITEBACK_TOKEN_FILE || undefined);
  const text = file === undefined ? env.WRITEBACK_TOKEN : await contentOf(file, '--token-file');
  const token = text?.trim();
  if (token === undefined || token === null || token === '') {
    if (file === undefined) return null;
    throw new CliError(`The file ${file} holds no token.`, EXIT.usage);
  }
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new CliError(
    `The token ${file === undefined ? 'in WRITEBACK_TOKEN' : `in ${file}`} has a character that none has.`,
    EXIT.usage,
  );
}

/** @throws {CliError} usage */
async function certificateFor(
  { env }: CliContext,
  { certFile, keyFile }: ServiceOptions,
): Promise<ServiceCredentials['certificate']> {
  const cert = await contentOf(certFile ?? (env.WRITEBACK_CERT_FILE || undefined), '--cert-file');
  const key = await contentOf(keyFile ?? (env.WRITEBACK_KEY_FILE || undefined), '--key-file');
  if (cert === null && key === null) return null;
  if (cert !== null && key !== null) return { cert, key };
  throw new CliError('A certificate needs its key: give both --cert-file and --key-file.', EXIT.usage);
}

async function contentOf(file: string | undefined, option: string): Promise<string | null> {
  if (file === undefined) return null;
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(`${option}: ${file} cannot be read: ${why}`, EXIT.usage, { cause: error });
  }
}

/** For options that may be given several times. */
export function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

export function choice(flags: string, description: string, values: readonly string[]): Option {
  return new Option(flags, description).choices([...values]);
}

/** As `choice`, and may be given several times. */
export function choices<T extends string>(flags: string, description: string, values: readonly T[]): Option {
  const option = new Option(flags, `${description} (${values.join(', ')}; repeatable)`);
  return option.argParser((value: string, before: T[] | undefined) => {
    const known = values.find((candidate) => candidate === value);
    if (known === undefined) {
      throw new CliError(`${option.long} takes one of ${values.join(', ')}, not "${value}".`, EXIT.usage);
    }
    return [...(before ?? []), known];
  });
}

export function seconds(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.argParser((value: string) => parseSeconds(value, option.long ?? flags));
}

export function bytes(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.argParser((value: string) => parseBytes(value, option.long ?? flags));
}

export function percent(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.argParser((value: string) => {
    const share = Number(value.replace(/\s*%$/, ''));
    if (share > 0 && Number.isFinite(share)) return share;
    throw new CliError(`${option.long} takes per cent of one CPU above 0, not "${value}".`, EXIT.usage);
  });
}

/** @param word stands for null, where null means something */
export function positive(flags: string, description: string, word?: string): Option {
  const option = new Option(flags, description);
  return option.argParser((value: string) => {
    if (value === word) return null;
    const number = Number(value);
    if (number > 0 && Number.isFinite(number)) return number;
    const alternative = word === undefined ? '' : ` or "${word}"`;
    throw new CliError(`${option.long} takes a number above 0${alternative}, not "${value}".`, EXIT.usage);
  });
}

/** `K=V` … → labels. @throws {CliError} usage */
export function parseLabels(pairs: readonly string[] | undefined): Record<string, string> {
  const labels: Record<string, string> = Object.create(null);
  for (const pair of pairs ?? []) {
    const equals = pair.indexOf('=');
    if (equals < 1) throw new CliError(`--label takes KEY=VALUE, not "${pair}".`, EXIT.usage);
    const key = pair.slice(0, equals);
    if (Object.hasOwn(labels, key)) throw new CliError(`--label ${key} is given twice.`, EXIT.usage);
    labels[key] = pair.slice(equals + 1);
  }
  return labels;
}

/** Path with query; a list gives one parameter each, undefined none. */
export function withQuery(
  path: string,
  query: Record<string, string | number | readonly string[] | undefined>,
): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) parameters.append(name, String(one));
    }
  }
  const text = parameters.toString();
  return text === '' ? path : `${path}?${text}`;
}

export function jobPath(id: string, below = ''): string {
  return `/v1/jobs/${encodeURIComponent(id)}${below}`;
}
