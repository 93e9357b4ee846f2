/**
 * `node scripts/build-web.mjs DIR`: bundles the dashboard (src/web) into DIR: `index.html`, and below `assets` what it
 * loads, each under a name that changes with its content.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';
import { root } from './setup.mjs';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: node scripts/build-web.mjs DIR');
const out = resolve(folder);
const source = join(root, 'src', 'web');

// What an earlier build left there would be served for ever.
await rm(join(out, 'assets'), { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: [join(source, 'main.tsx'), join(source, 'style.css'), join(source, 'icon.svg')],
  entryNames: '[name]-[hash]',
  outdir: join(out, 'assets'),
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome123', 'firefox120', 'safari17.5'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  loader: { '.svg': 'copy' },
  legalComments: 'none',
  logLevel: 'warning',
  metafile: true,
  absWorkingDir: root,
});

let page = await readFile(join(source, 'index.html'), 'utf8');
for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) {
  page = page.replace(`{{${basename(entryPoint ?? '')}}}`, `/assets/${basename(path)}`);
}
if (page.includes('{{')) throw new Error('index.html names something that was not built');
await writeFile(join(out, 'index.html'), page);
