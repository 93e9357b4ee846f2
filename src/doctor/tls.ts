import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { TlsFiles } from '../access/tls.js';
import type { Finding } from '../nfs/examination.js';
import { examineFile } from './files.js';
import { daysUntil, fail, messageOf, ok, SOON_DAYS, warn } from './finding.js';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The files of `http.tls`: that they can be read, fit together, and for how long they are valid. */
export async function* examineTls({ certFile, keyFile, clientCaFile }: TlsFiles): AsyncGenerator<Finding> {
  const parts = [
    { path: certFile, what: 'the certificate', secret: false },
    { path: keyFile, what: 'its key', secret: true },
    ...(clientCaFile === null
      ? []
      : [{ path: clientCaFile, what: 'the file of client authorities', secret: false }]),
  ];
  let readable = true;
  for (const { path, what, secret } of parts) {
    const findings = await examineFile(path, what, secret);
    yield* findings;
    readable &&= await readFile(path).then(
      () => true,
      () => false,
    );
  }
  if (!readable) return;
  const [certificate, ...chain] = yield* certificatesOf(certFile, 'the certificate');
  if (certificate !== undefined) {
    const names = certificate.subjectAltName?.replaceAll(/DNS:|IP Address:/g, '') ?? 'no name';
    yield* examineDates(certificate, `the certificate for ${names}`);
    for (const above of chain) yield* examineDates(above, `${nameOf(above)} in the chain`);
    if (certificate.subjectAltName === undefined) {
      yield warn(
        'the certificate has no subjectAltName, so clients take it for no host. Have one made with the names of the service.',
      );
    }
    yield* examineKey(certificate, keyFile);
  }
  if (clientCaFile === null) return;
  for (const authority of yield* certificatesOf(clientCaFile, 'the file of client authorities')) {
    yield* examineDates(authority, `the client authority ${nameOf(authority)}`);
    if (!authority.ca) {
      yield fail(
        `${nameOf(authority)} in ${clientCaFile} is no authority (CA:FALSE), so no client is let in by it. Put the certificate of their authority there.`,
      );
    }
  }
}

async function* certificatesOf(path: string, what: string): AsyncGenerator<Finding, X509Certificate[]> {
  try {
    const found = (await readFile(path, 'utf8')).match(CERTIFICATE) ?? [];
    if (found.length === 0) throw new Error('it has no PEM certificate');
    return found.map((pem) => new X509Certificate(pem));
  } catch (error) {
    yield fail(`${what}, ${path}, is none that can be used: ${messageOf(error)}. It must be in PEM.`);
    return [];
  }
}

async function* examineKey(certificate: X509Certificate, keyFile: string): AsyncGenerator<Finding> {
  try {
    yield certificate.checkPrivateKey(createPrivateKey(await readFile(keyFile)))
      ? ok('certificate and key belong together')
      : fail(`${keyFile} is not the key of the certificate. Take both from the same renewal.`);
  } catch (error) {
    yield fail(
      `${keyFile} is no private key that can be used: ${messageOf(error)}. It must be in PEM, without a password.`,
    );
  }
}

function* examineDates(certificate: X509Certificate, what: string): Generator<Finding> {
  const { validFrom, validTo } = certificate;
  const left = daysUntil(validTo);
  const end = new Date(validTo).toISOString();
  if (daysUntil(validFrom) > 0) {
    yield fail(
      `${what} is valid only from ${new Date(validFrom).toISOString()}. Check the clock of this host.`,
    );
  } else if (left <= 0) {
    yield fail(`${what} has expired at ${end}. Renew it: the files are read again while the service runs.`);
  } else if (left < SOON_DAYS) {
    yield warn(
      `${what} expires at ${end}, in less than ${SOON_DAYS} days. Renew it: the files are read again while the service runs.`,
    );
  } else {
    yield ok(`${what} is valid until ${end}`);
  }
}

function nameOf({ subject }: X509Certificate): string {
  return subject.replaceAll('\n', ', ');
}
