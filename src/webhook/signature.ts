import { createHmac } from 'node:crypto';

/**
 * The field `webhook-signature` of Standard Webhooks 1.0.0: HMAC-SHA256 over id, time and body, once with each key.
 * @param timestamp seconds since 1970
 */
export function signature(id: string, timestamp: number, body: string, keys: readonly Buffer[]): string {
  return keys
    .map((key) => `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`)
    .join(' ');
}
