import { execFile, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Certificates as an operator makes them: by the openssl command. */

const openssl = promisify(execFile);
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Why a test that needs them cannot run, or false. */
export const NO_OPENSSL =
  spawnSync('openssl', ['version']).status !== 0
    ? 'there is no openssl command to make a certificate with'
    : false;

export interface CertificateFiles {
  certFile: string;
  keyFile: string;
}

/** An authority, or a certificate that signs itself, for localhost and 127.0.0.1; valid for two days. */
export async function selfSigned(folder: string, name: string): Promise<CertificateFiles> {
  const files = filesOf(folder, name);
  await openssl('openssl', [
    ...['req', '-x509', ...KEY, '-days', '2', '-subj', `/CN=${name}`],
    ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    ...['-keyout', files.keyFile, '-out', files.certFile],
  ]);
  return files;
}

/** A certificate of an authority, for localhost and 127.0.0.1. */
export async function signedBy(
  authority: CertificateFiles,
  folder: string,
  name: string,
  days = 2,
): Promise<CertificateFiles> {
  const files = filesOf(folder, name);
  const [request, extensions] = [join(folder, `${name}.csr`), join(folder, `${name}.ext`)];
  await openssl('openssl', [
    'req',
    ...KEY,
    '-subj',
    `/CN=${name}`,
    '-keyout',
    files.keyFile,
    '-out',
    request,
  ]);
  await writeFile(extensions, 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  await openssl('openssl', [
    ...['x509', '-req', '-in', request, '-CA', authority.certFile, '-CAkey', authority.keyFile],
    ...['-CAcreateserial', '-days', String(days), '-extfile', extensions, '-out', files.certFile],
  ]);
  return files;
}

function filesOf(folder: string, name: string): CertificateFiles {
  return { certFile: join(folder, `${name}.crt`), keyFile: join(folder, `${name}.key`) };
}
