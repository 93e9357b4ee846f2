import { ENDPOINT_NAME } from '../model/webhook.js';

/** What looks like a credential that somebody put into a URL, where it is of no use here. */
const CREDENTIALS = /wbt_[a-z2-7]{12}_[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g;

/** The URL of a request, for the log: of a webhook only its name or origin, because the rest may be a token. */
export function loggedUrl(url: string): string {
  const begin = url.indexOf('?');
  const parameters = new URLSearchParams(begin < 0 ? '' : url.slice(begin + 1));
  if (begin < 0 || !parameters.has('webhook')) return url.replace(CREDENTIALS, '…');
  const shown = parameters.getAll('webhook').map(shownReceiver);
  parameters.delete('webhook');
  const rest = [parameters.toString(), ...shown.map((receiver) => `webhook=${receiver}`)];
  return `${url.slice(0, begin)}?${rest.filter((part) => part !== '').join('&')}`.replace(CREDENTIALS, '…');
}

function shownReceiver(receiver: string): string {
  if (ENDPOINT_NAME.test(receiver)) return receiver;
  return URL.canParse(receiver) ? `${new URL(receiver).origin}/…` : '…';
}
