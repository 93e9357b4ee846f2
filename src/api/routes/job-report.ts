import { z } from 'zod';
import type { JobFile } from '../../model/job.js';
import { jobParamsSchema, reportQuerySchema } from '../../model/job-queries.js';
import type { FileState } from '../../model/words.js';
import type { JobStore, Page } from '../../store/types.js';
import { CSV_HEADER, csvLine } from '../csv.js';
import { operation, type RouteContext } from '../deps.js';
import { FILE_EXAMPLE } from '../examples.js';
import { cutAfter, sendStream } from '../streams.js';

const PAGE = 1000;
const TYPES = { csv: 'text/csv', ndjson: 'application/x-ndjson' } as const;
const NOT_DONE: FileState[] = ['failed', 'expired', 'canceled'];

/** GET /v1/jobs/{id}/report */
export function reportJob({ store, admissions }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs/:id/report',
    access: 'submit',
    exposeHeadRoute: false,
    schema: {
      operationId: 'reportJob',
      tags: ['jobs'],
      summary: 'Download what became of the files',
      description: `The files of a job as one document to keep, in the order of submission, however many there are: it is sent as it is read. A report that cannot be finished, or whose credential is revoked meanwhile, breaks off without the end of the HTTP message, so that it does not pass for a whole one.

- \`format=csv\` (RFC 4180): a header, then a line per file. What a spreadsheet would take for a formula begins with an apostrophe; so does what begins with an apostrophe itself. A byte of a name that is not UTF-8 is written as \`\\udc80\` to \`\\udcff\`; where that could be part of a name, take \`ndjson\`.
- \`format=ndjson\`: a line per file, in the form of \`/v1/jobs/{id}/files\`.

Of a job that has not ended it tells what is known while it is read.`,
      params: jobParamsSchema,
      querystring: reportQuerySchema,
      response: {},
      'x-docs': {
        responses: {
          200: {
            description: 'The report.',
            headers: {
              'Content-Disposition': {
                description: 'The name of the file to save it in.',
                example: 'attachment; filename="job_01m7yx4sqram8jdtvpaw5zrxqv-failed.csv"',
              },
            },
            content: {
              [TYPES.csv]: { schema: z.string(), example: `${CSV_HEADER}${csvLine(FILE_EXAMPLE)}` },
              [TYPES.ndjson]: {
                schema: z.string().meta({ description: 'Each line is a JobFile.' }),
                example: `${JSON.stringify(FILE_EXAMPLE)}\n`,
              },
            },
          },
        },
        errors: ['VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const { format, scope } = request.query;
      const filter = scope === 'failed' ? { states: NOT_DONE } : {};
      // Before anything is answered, so that a refusal is one.
      const first = await store.listFiles(id, filter, null, PAGE);
      reply.header('content-disposition', `attachment; filename="${id}-${scope}.${format}"`);
      const type = format === 'csv' ? `${TYPES.csv}; charset=utf-8; header=present` : TYPES.ndjson;
      const admitted = admissions.watch(request, reply.raw);
      cutAfter(admitted, reply.raw);
      return sendStream(reply, type, lines(store, id, filter, first, format, admitted));
    },
  });
}

async function* lines(
  store: JobStore,
  id: string,
  filter: { states?: FileState[] },
  first: Page<JobFile>,
  format: keyof typeof TYPES,
  admitted: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  const line = format === 'csv' ? csvLine : (file: JobFile) => `${JSON.stringify(file)}\n`;
  if (format === 'csv') yield CSV_HEADER;
  for (let page = first; ; ) {
    if (page.items.length > 0) yield page.items.map(line).join('');
    if (page.nextCursor === null) return;
    admitted.throwIfAborted();
    page = await store.listFiles(id, filter, page.nextCursor, PAGE);
  }
}
