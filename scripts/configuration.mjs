/**
 * `node scripts/configuration.mjs > docs/CONFIGURATION.md`: the page is made from the schema that checks the
 * configuration, and a test fails when the two differ. Needs a build.
 */
import { pathToFileURL } from 'node:url';

/**
 * @param {object} schema JSON Schema of the configuration
 * @param {Record<string, {key: string}>} environment variables and the keys they override
 * @returns {string} Markdown
 */
export function configurationPage(schema, environment) {
  const variables = new Map(Object.entries(environment).map(([name, { key }]) => [key, name]));
  const rows = tableRows(schema, '', variables);
  return `# Configuration

The service reads a YAML file, named by \`--config\` or \`WRITEBACK_CONFIG\`, and then the environment, which overrides it; options of the command line override both. Without any of them it runs on one host with a private Redis. Unknown keys are refused. \`config.example.yaml\` is a start.

The client commands read \`WRITEBACK_URL\`, the address of the service (default \`http://127.0.0.1:8080\`).

| key | type | default | environment variable | meaning |
|---|---|---|---|---|
${rows.join('\n')}
`;
}

function tableRows(schema, prefix, variables) {
  return Object.entries(schema.properties ?? {}).flatMap(([name, given]) => {
    const key = prefix === '' ? name : `${prefix}.${name}`;
    const property = notNull(given);
    if (property.type === 'object' && property.properties !== undefined) {
      return tableRows(property, key, variables);
    }
    if (property.type === 'array' && property.items?.properties !== undefined) {
      const row = `| \`${key}\` | list | ${shownDefault(given)} | | ${given.description ?? ''} |`;
      return [row, ...tableRows(property.items, `${key}[]`, variables)];
    }
    const variable = variables.has(key) ? `\`${variables.get(key)}\`` : '';
    return [
      `| \`${key}\` | ${typeName(given)} | ${shownDefault(given)} | ${variable} | ${given.description ?? ''} |`,
    ];
  });
}

function notNull(property) {
  return property.anyOf?.find((choice) => choice.type !== 'null') ?? property;
}

function typeName(property) {
  const { type, enum: values, items } = notNull(property);
  const name = values
    ? values.map((value) => `\`${value}\``).join(', ')
    : type === 'array'
      ? `list of ${items.type ?? 'string'}s`
      : type;
  return property.anyOf?.some((choice) => choice.type === 'null') ? `${name} or null` : name;
}

function shownDefault(property) {
  return property.default === undefined ? '' : `\`${JSON.stringify(property.default)}\``;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { z } = await import('zod');
  const { configSchema, ENVIRONMENT } = await import('../dist/config/schema.js');
  process.stdout.write(configurationPage(z.toJSONSchema(configSchema, { io: 'input' }), ENVIRONMENT));
}
