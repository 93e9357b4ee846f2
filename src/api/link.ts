import type { FastifyReply, FastifyRequest } from 'fastify';

export const LINK_DOCS = {
  Link: {
    description: '`rel="next"`: the next page (RFC 8288); absent on the last one.',
    example: '</v1/jobs?cursor=abc>; rel="next"',
  },
};

/** Sets `Link: …; rel="next"` (RFC 8288) to the same request with the cursor of the next page. */
export function linkToNext(request: FastifyRequest, reply: FastifyReply, nextCursor: string | null): void {
  if (nextCursor === null) return;
  const mark = request.url.indexOf('?');
  const path = mark < 0 ? request.url : request.url.slice(0, mark);
  const parameters = new URLSearchParams(mark < 0 ? '' : request.url.slice(mark + 1));
  parameters.set('cursor', nextCursor);
  reply.header('link', `<${path}?${parameters}>; rel="next"`);
}
