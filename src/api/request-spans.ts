import {
  INVALID_SPAN_CONTEXT,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import type { FastifyInstance, FastifyRequest } from 'fastify';

/** A span for each request, as the semantic conventions for HTTP have it. What made a trace carries it on: the job. */

declare module 'fastify' {
  interface FastifyRequest {
    span: Span;
  }
}

const tracer = trace.getTracer('writeback-broker');
const NO_SPAN = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/**
 * Before the hooks of others, so that what they refuse is in the trace as well.
 * @param traced false: nobody collects spans, so none are made
 */
export function addRequestSpans(app: FastifyInstance, traced: boolean): void {
  if (!traced) {
    app.decorateRequest('span', { getter: () => NO_SPAN });
    return;
  }
  app.decorateRequest('span', null as unknown as Span);
  app.addHook('onRequest', (request, _reply, done) => {
    const { method, routeOptions, id } = request;
    const route = routeOptions.url ?? '';
    request.span = tracer.startSpan(
      `${method} ${route}`.trimEnd(),
      {
        kind: SpanKind.SERVER,
        attributes: { 'http.request.method': method, 'http.route': route, 'writeback.request.id': id },
      },
      propagation.extract(ROOT_CONTEXT, request.headers),
    );
    done();
  });
}

/** At the end of the answer, whole or not. */
export function endRequestSpan({ span }: FastifyRequest, status: number): void {
  span.setAttribute('http.response.status_code', status);
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

/** For the job that a request makes: its field traceparent (W3C Trace Context), or null if nothing is traced. */
export function traceparentOf({ span }: FastifyRequest): string | null {
  const carrier: { traceparent?: string } = {};
  propagation.inject(trace.setSpan(ROOT_CONTEXT, span), carrier);
  return carrier.traceparent ?? null;
}
