/** `npm run bench [-- --only raw,latency,path,listeners,sharing,store,copy] [--files N,…]`: installs what is missing, builds, measures. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import {
  buildAll,
  ensureDebianPackages,
  ensureNodeVersion,
  ensureNpmPackages,
  REDIS,
  root,
} from './setup.mjs';

ensureNodeVersion();
ensureNpmPackages();
ensureDebianPackages([
  REDIS,
  { command: 'ganesha.nfsd', package: 'nfs-ganesha-vfs', needed: 'NFS-Ganesha is not measured' },
  { command: 'rpcbind', package: 'rpcbind', needed: 'NFS-Ganesha is not measured' },
  { command: 'gcc', package: 'gcc', needed: 'libnfs is not measured' },
  { file: '/usr/include/nfsc/libnfs.h', package: 'libnfs-dev', needed: 'libnfs is not measured' },
]);
buildAll();

const { status } = spawnSync(
  process.execPath,
  ['--enable-source-maps', join(root, 'build', 'bench', 'main.js'), ...process.argv.slice(2)],
  { cwd: root, stdio: 'inherit' },
);
process.exit(status ?? 1);
