import { signal } from '@preact/signals';

/** Where in the dashboard: `#/jobs?state=failed`. Behind the hash, so that every address of the service stays the API's. */

export interface Route {
  /** `['jobs', ID]` */
  path: readonly string[];
  query: URLSearchParams;
}

export const route = signal(parse(location.hash));

addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const parts = path.split('/').filter((part) => part !== '');
  return { path: parts.map(decoded), query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a place; what is undefined or '' is left out of the query. */
export function href(
  path: readonly string[],
  query: Record<string, string | readonly string[] | undefined> = {},
): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== undefined && one !== '') parameters.append(name, one);
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`;
}

export function go(to: string): void {
  location.hash = to;
}
