import { propagation, trace } from '@opentelemetry/api';

/** Traces by OpenTelemetry, for those who have a collector. Rooms use its API alone, which does nothing without this. */

export interface TracingSettings {
  /** Base URL of a collector that takes OTLP over HTTP as JSON; `/v1/traces` is put behind it. */
  endpoint: string;
  /** Share of the traces begun here that are kept, 0 to 1. A request that brings a trace decides by itself. */
  sampleRatio: number;
  version: string;
  role: string;
  hostName: string;
  processId: number;
}

export interface Tracing {
  /** Sends what is left, for some seconds at most. Never rejects. */
  close(): Promise<void>;
}

const EXPORT_TIMEOUT_MS = 5000;
/** Spans that wait to be sent; more are dropped, so that a collector that is away costs no memory. */
const MAX_QUEUED_SPANS = 8192;

/** Of the whole process. The packages are loaded here, so that who does not trace does not pay for them. */
export async function startTracing(settings: TracingSettings): Promise<Tracing> {
  const [{ W3CTraceContextPropagator }, { OTLPTraceExporter }, { resourceFromAttributes }, sdk] =
    await Promise.all([
      import('@opentelemetry/core'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/sdk-trace'),
    ]);
  const { BatchSpanProcessor, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } = sdk;
  const exporter = new OTLPTraceExporter({
    url: `${settings.endpoint.replace(/\/+$/, '')}/v1/traces`,
    timeoutMillis: EXPORT_TIMEOUT_MS,
  });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': 'writeback-broker',
      'service.version': settings.version,
      'service.instance.id': `${settings.hostName}:${settings.processId}`,
      'host.name': settings.hostName,
      'writeback.role': settings.role,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(settings.sampleRatio) }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxQueueSize: MAX_QUEUED_SPANS,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
      }),
    ],
  });
  trace.setGlobalTracerProvider(provider);
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  return {
    async close() {
      trace.disable();
      propagation.disable();
      await provider.shutdown().catch(() => {});
    },
  };
}
