import { constants } from 'node:crypto';
import { createSecureContext, type SecureContextOptions, type Server, type TlsOptions } from 'node:tls';
import { WatchedFiles } from './watched-files.js';

/** HTTPS with the certificate of some files, which may be renewed while it serves. */

export interface TlsFiles {
  certFile: string;
  keyFile: string;
  /** Null: clients need no certificate. */
  clientCaFile: string | null;
}

export interface TlsCertificates {
  /** To make the server with. */
  readonly options: TlsOptions;
  /** From now on new connections get what the files have; those that are there stay. */
  renewFor(server: Server): void;
  close(): void;
}

/**
 * `onRenewed`: new certificates are in use. `onError`: the files have changed and cannot be used, e.g. because only one
 * of them was renewed yet; what was read before stays in use.
 * @throws {Error} for the operator, if they cannot be used now
 */
export async function openTls(
  { certFile, keyFile, clientCaFile }: TlsFiles,
  { onRenewed, onError }: { onRenewed(): void; onError(error: Error): void },
): Promise<TlsCertificates> {
  const paths = [certFile, keyFile, ...(clientCaFile === null ? [] : [clientCaFile])];
  let server: Server | null = null;
  const files = await WatchedFiles.open<SecureContextOptions>({
    paths,
    onError,
    parse(contents) {
      const [cert, key, ca] = contents.map((content, i) => {
        if (content === null) throw new Error(`${paths[i]} is not there`);
        return content;
      });
      const options: SecureContextOptions = {
        cert,
        key,
        ...(ca && { ca }),
        minVersion: 'TLSv1.2',
        honorCipherOrder: true,
        secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      };
      try {
        createSecureContext(options);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        throw new Error(`${paths.join(', ')}: not usable for TLS together (${why})`);
      }
      return options;
    },
    onChange(options) {
      server?.setSecureContext(options);
      onRenewed();
    },
  });
  const mutual = clientCaFile === null ? {} : { requestCert: true, rejectUnauthorized: true };
  return {
    options: { ...files.value, ...mutual },
    renewFor(started) {
      server = started;
      // They may have changed since the server was made.
      started.setSecureContext(files.value);
    },
    close: () => files.close(),
  };
}
