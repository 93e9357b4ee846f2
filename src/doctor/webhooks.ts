import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { WebhooksConfig } from '../model/webhook.js';
import type { Finding } from '../nfs/examination.js';
import { PublicAddresses } from '../webhook/public-addresses.js';
import { fail, messageOf, ok, warn } from './finding.js';

/** Each endpoint and origin: that it may be called, and answers a connection. Nothing is sent. */
export async function* examineWebhooks(
  { endpoints, origins, networks }: WebhooksConfig,
  timeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<Finding> {
  const addresses = new PublicAddresses(networks);
  const receivers = [
    // Of a URL only the origin is told: the rest may be a token.
    ...endpoints.map(({ name, url, secrets }) => ({ name, url: new URL(url), secrets })),
    ...origins.map(({ origin, secrets }) => ({ name: origin, url: new URL(origin), secrets })),
  ];
  const owners = new Map<string, string>();
  for (const { name, url, secrets } of receivers) {
    if (signal.aborted) return;
    yield await examineReceiver(
      name,
      url,
      addresses,
      AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    );
    for (const secret of secrets) {
      const owner = owners.get(secret);
      if (owner !== undefined && owner !== name) {
        yield warn(
          `${name} and ${owner} share a secret, so each can sign messages for the other. Give every receiver its own.`,
        );
      }
      owners.set(secret, name);
    }
  }
}

async function examineReceiver(
  name: string,
  url: URL,
  addresses: PublicAddresses,
  signal: AbortSignal,
): Promise<Finding> {
  let host = '';
  try {
    const [address] = await addresses.of(url.hostname);
    host = address?.address ?? '';
  } catch (error) {
    return fail(`${name}: ${messageOf(error)}. Correct its host, or name its network in webhooks.networks.`);
  }
  const secure = url.protocol === 'https:';
  const port = Number(url.port) || (secure ? 443 : 80);
  let socket: Socket | null = null;
  try {
    socket = secure
      ? connectTls({ host, port, ...(isName(url.hostname) && { servername: url.hostname }) })
      : connectTcp({ host, port });
    socket.on('error', () => {});
    await once(socket, secure ? 'secureConnect' : 'connect', { signal });
  } catch (error) {
    const why = signal.aborted ? 'it does not answer' : messageOf(error);
    const trust = secure ? ' An authority of your own is trusted by NODE_EXTRA_CA_CERTS.' : '';
    return fail(
      `${name}: no connection to ${url.origin} (${why}). Check that it runs, and the way there from the hosts of the API.${trust}`,
    );
  } finally {
    socket?.destroy();
  }
  if (secure) return ok(`${name}: ${url.origin} takes a connection, and its certificate is trusted`);
  return warn(
    `${name}: ${url.origin} takes a connection, but messages to it can be read on their way. Use https.`,
  );
}

function isName(hostname: string): boolean {
  return !/^[\d.]+$|^\[/.test(hostname);
}
