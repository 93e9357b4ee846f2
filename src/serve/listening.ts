import { type AddressInfo, BlockList, isIP, isIPv6 } from 'node:net';
import { ConfigError } from '../config/faults.js';
import type { Config } from '../config/schema.js';
import { hasCredentials } from '../model/access.js';

/** Addresses to listen on: which are refused, and how one is told. */

/** What to do about an address that cannot be listened on, as an error for the operator; `where` names the setting. */
export function listenError(
  error: unknown,
  { host, port }: { host: string; port: number },
  where = '--port, http.port',
): Error {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const why =
    code === 'EADDRINUSE'
      ? `is in use. Give another port (${where}), or 0 for any that is free`
      : code === 'EACCES'
        ? 'is not allowed for this user. Give a port above 1023'
        : code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND'
          ? 'is no address of this machine'
          : `cannot be listened on (${error instanceof Error ? error.message : String(error)})`;
  return new Error(`${host} port ${port} ${why}.`, { cause: error });
}

/** The same of a unix socket. */
export function socketError(error: unknown, path: string): Error {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const why =
    code === 'EADDRINUSE'
      ? 'is the socket of another process, or a file. Give each process its own'
      : code === 'EACCES' || code === 'ENOENT' || code === 'EROFS'
        ? 'cannot be made: its folder must be there, and be writable for this user'
        : `cannot be listened on (${error instanceof Error ? error.message : String(error)})`;
  return new Error(`healthSocket: ${path} ${why} (healthSocket, WRITEBACK_HEALTH_SOCKET).`, { cause: error });
}

/** An address that a browser on this machine can open. */
export function urlOf({ address, family, port }: AddressInfo, scheme: 'http' | 'https'): string {
  if (address === '0.0.0.0') return `${scheme}://127.0.0.1:${port}`;
  if (address === '::') return `${scheme}://[::1]:${port}`;
  return family === 'IPv6' ? `${scheme}://[${address}]:${port}` : `${scheme}://${address}:${port}`;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** True if only this machine reaches the address. A name may become any address, but for this one (RFC 6761 §6.3). */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}

/** @throws {ConfigError} if others could connect, and nobody would be asked who it is */
export function requireCredentials({ http, access }: Config): void {
  if (hasCredentials(access) || access.insecureWithoutCredentials || isLoopback(http.host)) return;
  throw new ConfigError([
    `http.host: "${http.host}" is an address that others may reach, and no credential is configured: whoever connects would be an administrator. Set access.tokensFile (WRITEBACK_TOKENS_FILE; "writeback token create" writes it) or access.jwt, or listen on 127.0.0.1. In a network where that is meant, access.insecureWithoutCredentials allows it.`,
  ]);
}
