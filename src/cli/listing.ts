import { z } from 'zod';
import { parseBody, type ServiceClient } from './service-client.js';

/**
 * All items of a listing, page after page as they are asked for.
 * @param path with its query, without a cursor
 */
export async function* listed<T>(
  client: ServiceClient,
  path: string,
  item: z.ZodType<T>,
): AsyncGenerator<T[], void, undefined> {
  const page = z.object({ items: z.array(item), nextCursor: z.string().nullable() });
  let cursor: string | null = null;
  do {
    const more: string =
      cursor === null ? '' : `${path.includes('?') ? '&' : '?'}cursor=${encodeURIComponent(cursor)}`;
    const answer = await client.request('GET', path + more);
    const { items, nextCursor }: { items: T[]; nextCursor: string | null } = parseBody(page, answer.body);
    yield items;
    cursor = nextCursor;
  } while (cursor !== null);
}
