import { resolve } from 'node:path';
import type { Command } from 'commander';
import { newToken } from '../access/token.js';
import { changeTokens, readTokens, type StoredToken } from '../access/tokens-file.js';
import { PRINCIPAL_NAME, PRINCIPAL_NAME_RULE } from '../model/principal.js';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import type { RegisterCommand } from './program.js';
import { parseSeconds, tableText } from './text.js';

/** What the configuration says of tokens. */
export interface TokenSettings {
  tokensFile: string | null;
  /** Whether the service would take a token of this principal. */
  knows(principal: string): boolean;
}
type ReadSettings = (config: string | undefined, context: CliContext) => Promise<TokenSettings>;

interface PlaceOptions {
  config?: string;
  tokensFile?: string;
}

interface CreateOptions extends PlaceOptions {
  principal: string;
  expires: string;
  description: string;
}

const DEFAULT_LIFE = '365d';

const HELP = `
A token is for a principal; what that may do stands in the configuration of the service (access.principals). The file
has only digests of tokens: what "create" prints is not printed again. A running service reads the file again within
seconds when it changes. For several hosts put it on storage that they share, or spread it as you spread the
configuration.`;

/** `writeback token create|list|revoke`: works on the file, with or without a running service. */
export function registerToken(readSettings: ReadSettings): RegisterCommand {
  return (program, context) => {
    const token = program
      .command('token')
      .summary('make, list and revoke bearer tokens')
      .description('Works on the file of bearer tokens.')
      .addHelpText('after', HELP);
    place(token.command('create'))
      .description('Makes a token and prints it.')
      .requiredOption('--principal <name>', 'whose it is')
      .option('--expires <time>', 'when it ends: 12h, 90d, or never', DEFAULT_LIFE)
      .option('--description <text>', 'what it is for', '')
      .action(async (options: CreateOptions) => create(options, context, readSettings));
    place(token.command('list'))
      .description('Lists the tokens that are there; the id is the part of a token after wbt_.')
      .option('--json', 'as JSON')
      .action(async (options: PlaceOptions & { json?: boolean }) => list(options, context, readSettings));
    place(token.command('revoke'))
      .description('Removes tokens by their ids.')
      .argument('<id...>', 'the id of a token')
      .action(async (ids: string[], options: PlaceOptions) => revoke(ids, options, context, readSettings));
  };
}

function place(command: Command): Command {
  return command
    .option('--tokens-file <file>', 'the file (WRITEBACK_TOKENS_FILE, access.tokensFile)')
    .option('--config <file>', 'configuration file of the service, YAML (WRITEBACK_CONFIG)');
}

async function create(
  options: CreateOptions,
  context: CliContext,
  readSettings: ReadSettings,
): Promise<void> {
  const { principal, description } = options;
  if (!PRINCIPAL_NAME.test(principal)) throw new CliError(`--principal: ${PRINCIPAL_NAME_RULE}.`, EXIT.usage);
  if (description.length > 200 || /\p{Cc}/u.test(description)) {
    throw new CliError('--description takes one line of at most 200 characters.', EXIT.usage);
  }
  const createdAt = new Date();
  const expiresAt = endOf(createdAt, options.expires);
  const { path, settings } = await tokensPlace(options, context, readSettings);
  if (settings !== null && !settings.knows(principal)) {
    throw new CliError(
      `The configuration knows no principal "${principal}": add it to access.principals first, or set access.unknownPrincipals.`,
      EXIT.usage,
    );
  }
  const { token, id, digest } = newToken();
  const stored: StoredToken = {
    id,
    digest,
    principal,
    description,
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt?.toISOString() ?? null,
  };
  await onFile(path, () => changeTokens(path, (tokens) => [...tokens, stored]));
  context.stdout.write(`${token}\n`);
  const until = expiresAt === null ? 'never expires' : `expires at ${expiresAt.toISOString()}`;
  context.stderr.write(`Token ${id} of ${principal} ${until}. It is not shown again.\n`);
}

async function list(
  options: PlaceOptions & { json?: boolean },
  context: CliContext,
  readSettings: ReadSettings,
): Promise<void> {
  const { path } = await tokensPlace(options, context, readSettings);
  const tokens = await onFile(path, () => readTokens(path));
  const shown = tokens.map(({ digest: _, ...token }) => token);
  if (options.json) {
    context.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
    return;
  }
  const now = Date.now();
  const rows = shown.map(({ id, principal, createdAt, expiresAt, description }) => [
    id,
    principal,
    createdAt.slice(0, 19),
    expiresAt === null
      ? 'never'
      : `${expiresAt.slice(0, 19)}${Date.parse(expiresAt) <= now ? ' (over)' : ''}`,
    description,
  ]);
  const header = ['ID', 'PRINCIPAL', 'CREATED', 'EXPIRES', 'DESCRIPTION'];
  for (const line of tableText(header, rows)) context.stdout.write(`${line}\n`);
}

async function revoke(
  ids: string[],
  options: PlaceOptions,
  context: CliContext,
  readSettings: ReadSettings,
): Promise<void> {
  const { path } = await tokensPlace(options, context, readSettings);
  await onFile(path, () =>
    changeTokens(path, (tokens) => {
      for (const id of ids) {
        if (tokens.some((token) => token.id === id)) continue;
        throw new CliError(`${path} has no token ${id.slice(0, 40)}; nothing was revoked.`, EXIT.usage);
      }
      return tokens.filter(({ id }) => !ids.includes(id));
    }),
  );
  context.stderr.write(`Revoked ${ids.join(', ')}; a running service refuses within seconds.\n`);
}

/** The configuration is read only where it may say something. */
async function tokensPlace(
  { config, tokensFile }: PlaceOptions,
  context: CliContext,
  readSettings: ReadSettings,
): Promise<{ path: string; settings: TokenSettings | null }> {
  const named = tokensFile ?? (context.env.WRITEBACK_TOKENS_FILE || undefined);
  const configured = config !== undefined || Boolean(context.env.WRITEBACK_CONFIG);
  const settings = configured ? await readSettings(config, context) : null;
  const path = named ?? settings?.tokensFile;
  if (path != null) return { path: resolve(path), settings };
  throw new CliError(
    'Where are the tokens? Give --tokens-file, WRITEBACK_TOKENS_FILE, or a configuration with access.tokensFile.',
    EXIT.usage,
  );
}

function endOf(createdAt: Date, expires: string): Date | null {
  if (expires === 'never') return null;
  const seconds = parseSeconds(expires, '--expires');
  const end = new Date(createdAt.getTime() + seconds * 1000);
  if (end.getUTCFullYear() < 10_000) return end;
  throw new CliError('--expires takes a time from now, such as 12h or 90d, or never.', EXIT.usage);
}

async function onFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(`${path}: ${error instanceof Error ? error.message : String(error)}`, EXIT.error, {
      cause: error,
    });
  }
}
