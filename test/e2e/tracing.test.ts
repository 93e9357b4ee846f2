import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { startSimulatedCache } from '../../src/sim/server.js';
import { until } from '../support/until.js';
import { cacheAt, ended, getJob, numbered, startService } from './processes.js';

interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  attributes: { key: string; value: Record<string, unknown> }[];
}

/** A collector that takes OTLP as JSON and keeps the spans. */
async function startCollector(t: TestContext): Promise<{ url: string; spans: OtlpSpan[] }> {
  const spans: OtlpSpan[] = [];
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    if (request.url === '/v1/traces') {
      const { resourceSpans } = JSON.parse(Buffer.concat(parts).toString()) as {
        resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[];
      };
      for (const { scopeSpans } of resourceSpans) {
        for (const scope of scopeSpans) spans.push(...scope.spans);
      }
    }
    response.setHeader('content-type', 'application/json').end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans };
}

test('a trace goes from the request through the queue to every batch of NFS calls', async (t) => {
  const sim = await startSimulatedCache({ syntheticFiles: 1000 });
  t.after(() => sim.close());
  const collector = await startCollector(t);
  const service = await startService(t, {
    caches: [cacheAt(sim.ports)],
    tracing: { endpoint: collector.url },
  });
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const response = await fetch(`${service.url}/v1/flushes?cache=sim&export=/synthetic`, {
    method: 'POST',
    headers: {
      'content-type': 'text/plain',
      'x-request-id': 'run-17',
      traceparent: `00-${traceId}-b7ad6b7169203331-01`,
    },
    body: numbered(1000).join('\n'),
  });
  assert.equal(response.status, 202);
  const { id } = (await response.json()) as { id: string };
  assert.equal((await ended(service.url, id)).state, 'succeeded');
  await getJob(service.url, id);
  service.kill('SIGTERM');
  assert.equal(await service.ended, 0);

  await until('the spans of the end were sent', () =>
    collector.spans.some(({ name }) => name === 'flush chunk'),
  );
  const ours = collector.spans.filter((span) => span.traceId === traceId);
  const named = (name: string): OtlpSpan[] => ours.filter((span) => span.name === name);
  const [request] = named('POST /v1/flushes');
  assert.equal(request?.parentSpanId, 'b7ad6b7169203331');
  const chunks = named('flush chunk');
  assert.equal(chunks.length, 2);
  for (const chunk of chunks) {
    assert.equal(chunk.parentSpanId, request?.spanId);
    const value = (key: string) => chunk.attributes.find((one) => one.key === key)?.value.stringValue;
    assert.equal(value('writeback.job.id'), id);
    assert.equal(value('writeback.request.id'), 'run-17');
  }
  const batches = named('NFS3 batch');
  assert.ok(batches.length >= 2);
  const files = batches.map(({ attributes }) =>
    Number(attributes.find(({ key }) => key === 'writeback.files')?.value.intValue),
  );
  assert.equal(
    files.reduce((sum, each) => sum + each, 0),
    1000,
  );
  for (const { parentSpanId } of batches) assert.ok(chunks.some(({ spanId }) => spanId === parentSpanId));
  // A request without a trace begins its own.
  assert.ok(collector.spans.some((span) => span.name === 'GET /v1/jobs/:id' && span.traceId !== traceId));
});

test('a collector that is away costs no job and no end in order', async (t) => {
  const sim = await startSimulatedCache({ syntheticFiles: 100 });
  t.after(() => sim.close());
  const service = await startService(t, {
    caches: [cacheAt(sim.ports)],
    tracing: { endpoint: 'http://127.0.0.1:9' },
  });
  const response = await fetch(`${service.url}/v1/flushes?cache=sim&export=/synthetic`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: numbered(100).join('\n'),
  });
  const { id } = (await response.json()) as { id: string };
  assert.equal((await ended(service.url, id)).state, 'succeeded');
  service.kill('SIGTERM');
  assert.equal(await service.ended, 0);
});
