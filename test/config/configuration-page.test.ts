import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { z } from 'zod';
import { loadConfig } from '../../src/config/load.js';
import { configSchema, ENVIRONMENT } from '../../src/config/schema.js';

const root = new URL('../../../', import.meta.url);

test('docs/CONFIGURATION.md says what the schema says', async () => {
  const { configurationPage } = await import(new URL('scripts/configuration.mjs', root).href);
  const page = configurationPage(z.toJSONSchema(configSchema, { io: 'input' }), ENVIRONMENT);
  const written = readFileSync(new URL('docs/CONFIGURATION.md', root), 'utf8');
  assert.equal(written, page, 'run: npm run build && node scripts/configuration.mjs > docs/CONFIGURATION.md');
});

test('the example configuration is valid', () => {
  const yamlText = readFileSync(new URL('config.example.yaml', root), 'utf8');
  const config = loadConfig({ yamlText, env: { HOME: '/home/user' } });
  assert.deepEqual(
    config.caches.map(({ name, dialect }) => [name, dialect]),
    [
      ['scratch', 'hpc-cache'],
      ['archive', 'rfc1813'],
    ],
  );
});
