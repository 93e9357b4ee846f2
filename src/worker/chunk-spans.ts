import {
  type Context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import type { SessionCounters } from '../flush/session.js';
import type { ChunkRun, FlushWork } from '../store/work.js';

const tracer = trace.getTracer('writeback-broker');

/**
 * The part of a chunk in the trace of the request that made its job: a span for the chunk, and one within for each
 * batch of calls whose outcomes were stored together. A chunk that is taken up again has another span.
 */
export class ChunkSpans {
  readonly #counters: () => Pick<SessionCounters, 'calls' | 'retries'>;
  readonly #span: Span;
  readonly #context: Context;
  #batchBegunAt = Date.now();
  #before: Pick<SessionCounters, 'calls' | 'retries'>;

  /** @param counters of the session, which other chunks may use at the same time */
  constructor(run: ChunkRun<FlushWork>, counters: () => Pick<SessionCounters, 'calls' | 'retries'>) {
    const { job } = run;
    const carrier = { traceparent: job.origin.traceparent ?? '' };
    const parent = propagation.extract(ROOT_CONTEXT, carrier);
    this.#counters = counters;
    this.#before = counters();
    this.#span = tracer.startSpan(
      'flush chunk',
      {
        kind: SpanKind.CONSUMER,
        attributes: {
          'messaging.system': 'bullmq',
          'messaging.destination.name': job.queue,
          'writeback.job.id': job.id,
          'writeback.request.id': job.origin.requestId ?? '',
          'writeback.chunk': run.chunk,
          'writeback.run': run.run,
          'writeback.files': run.files.length,
        },
      },
      parent,
    );
    this.#context = trace.setSpan(parent, this.#span);
  }

  /** So many files have ended since the last batch, and their outcomes are in the store. */
  batchEnded(files: number): void {
    const { calls, retries } = this.#counters();
    tracer
      .startSpan(
        'NFS3 batch',
        {
          kind: SpanKind.CLIENT,
          startTime: this.#batchBegunAt,
          attributes: {
            'rpc.system': 'onc_rpc',
            'rpc.service': 'NFS3',
            'writeback.files': files,
            'writeback.session.calls': calls - this.#before.calls,
            'writeback.session.retries': retries - this.#before.retries,
          },
        },
        this.#context,
      )
      .end();
    this.#before = { calls, retries };
    this.#batchBegunAt = Date.now();
  }

  /** @param done false: some of its files go back to the queue */
  end(done: boolean, error?: unknown): void {
    this.#span.setAttribute('writeback.done', done);
    if (error instanceof Error) {
      this.#span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    }
    this.#span.end();
  }
}
