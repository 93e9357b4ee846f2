import { parseDocument } from 'yaml';
import { ConfigError, issueSentences, suggestion } from './faults.js';
import {
  type Config,
  configSchema,
  ENVIRONMENT,
  OPTIONS,
  OTHER_VARIABLES,
  type VariableKind,
} from './schema.js';

export interface ConfigSource {
  /** Content of the configuration file; absent or empty: defaults. */
  yamlText?: string | undefined;
  env: Readonly<Record<string, string | undefined>>;
  /** Options of the command line that were given, e.g. `{ port: 0 }`: these win over everything. */
  options?: Readonly<Partial<Record<keyof typeof OPTIONS, unknown>>>;
}

/** @throws {ConfigError} */
export function loadConfig({ yamlText, env, options = {} }: ConfigSource): Config {
  const tree = parseYaml(yamlText ?? '');
  const origin = new Map<string, string>();
  const problems: string[] = [];
  for (const [name, { key, kind }] of Object.entries(ENVIRONMENT)) {
    const text = env[name];
    if (text === undefined || text === '') continue;
    const value = parseVariable(text, kind);
    if (value === undefined) problems.push(`${name}: expected a ${kind}, got "${shown(text)}"`);
    else setKey(tree, key, value);
    origin.set(key, name);
  }
  for (const [name, key] of Object.entries(OPTIONS)) {
    const value = options[name as keyof typeof OPTIONS];
    if (value === undefined) continue;
    setKey(tree, key, value);
    origin.set(key, `option --${name}`);
  }
  if (tree.dataDir === undefined) tree.dataDir = defaultDataDir(env);

  const result = configSchema.safeParse(tree);
  if (!result.success)
    problems.push(...result.error.issues.flatMap((issue) => issueSentences(issue, origin)));
  if (problems.length > 0 || !result.success) throw new ConfigError(problems);
  return result.data;
}

/** A sentence for each WRITEBACK_ variable that means nothing, most probably a misspelt one. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = [...Object.keys(ENVIRONMENT), ...OTHER_VARIABLES];
  return Object.keys(env)
    .filter((name) => name.startsWith('WRITEBACK_') && !known.includes(name))
    .map((name) => `The environment variable ${name} is not known and ignored.${suggestion(name, known)}`);
}

function parseYaml(text: string): Record<string, unknown> {
  const document = parseDocument(text, { uniqueKeys: true });
  if (document.errors.length > 0)
    throw new ConfigError(document.errors.map(({ message }) => message.trimEnd()));
  const value: unknown = document.toJS({ maxAliasCount: 100 }) ?? {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(['the file must hold keys with values, e.g. "caches:"']);
  }
  return value as Record<string, unknown>;
}

function parseVariable(text: string, kind: VariableKind): unknown {
  switch (kind) {
    case 'text':
      return text;
    case 'number': {
      const value = Number(text);
      return Number.isFinite(value) ? value : undefined;
    }
    case 'boolean':
      return { true: true, '1': true, yes: true, false: false, '0': false, no: false }[text.toLowerCase()];
    case 'list':
      return text.split(/[,\s]+/).filter((item) => item !== '');
  }
}

function setKey(tree: Record<string, unknown>, key: string, value: unknown): void {
  const names = key.split('.');
  const last = names.pop() as string;
  let at = tree;
  for (const name of names) {
    // A section that is no object is left for the schema to complain about.
    if (at[name] === undefined || at[name] === null) at[name] = {};
    if (typeof at[name] !== 'object') return;
    at = at[name] as Record<string, unknown>;
  }
  at[last] = value;
}

function defaultDataDir(env: ConfigSource['env']): string {
  // systemd gives several folders separated by ":" when a unit asks for several.
  if (env.STATE_DIRECTORY) return env.STATE_DIRECTORY.split(':')[0] as string;
  if (env.XDG_DATA_HOME?.startsWith('/')) return `${env.XDG_DATA_HOME}/writeback`;
  if (env.HOME?.startsWith('/')) return `${env.HOME}/.local/share/writeback`;
  return '/var/lib/writeback';
}

function shown(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
