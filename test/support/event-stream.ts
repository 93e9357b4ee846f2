/** A plain reader of text/event-stream, as `EventSource` reads it, that also tells of comments. */

export interface StreamEvent<T> {
  /** The newest `id` that came, as `Last-Event-ID` would say. */
  id: string;
  /** `message` if it has no name; `` for a block without data. */
  event: string;
  data: T | null;
}

export interface EventStream<T> {
  response: Response;
  /** Every block, those without data (pings, a mere id) included. */
  blocks: AsyncGenerator<StreamEvent<T>, void, undefined>;
  /** The next one with data. @throws {Error} at the end of the stream */
  next(): Promise<StreamEvent<T> & { data: T }>;
  leave(): void;
}

export async function openEventStream<T>(
  url: string,
  lastEventId?: string,
  fields: Record<string, string> = {},
): Promise<EventStream<T>> {
  const controller = new AbortController();
  const headers = { ...fields, ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) };
  const response = await fetch(url, { headers, signal: controller.signal });
  const blocks = blocksOf<T>(response);
  return {
    response,
    blocks,
    async next() {
      for (;;) {
        const { value, done } = await blocks.next();
        if (done) throw new Error('the stream has ended');
        const { data } = value;
        if (data !== null) return { ...value, data };
      }
    },
    leave: () => controller.abort(),
  };
}

async function* blocksOf<T>(response: Response): AsyncGenerator<StreamEvent<T>, void, undefined> {
  let text = '';
  let id = '';
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString();
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = new Map(
        text
          .slice(0, end)
          .split('\n')
          .map((line): [string, string] => [
            line.slice(0, line.indexOf(':')),
            line.slice(line.indexOf(':') + 2),
          ]),
      );
      text = text.slice(end + 2);
      id = fields.get('id') ?? id;
      const data = fields.get('data');
      yield data === undefined
        ? { id, event: '', data: null }
        : { id, event: fields.get('event') ?? 'message', data: JSON.parse(data) as T };
    }
  }
}
