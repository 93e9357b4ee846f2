/** `npm run screenshots [-- DIR]`: takes the pictures of the dashboard that the documents show. Needs Chromium. */
import { buildAll, ensureNodeVersion, ensureNpmPackages, run } from './setup.mjs';

const [folder = 'docs/images'] = process.argv.slice(2);
ensureNodeVersion();
ensureNpmPackages();
console.log('Building …');
buildAll();
run(process.execPath, ['--enable-source-maps', 'build/test/web/screenshots.js', folder]);
