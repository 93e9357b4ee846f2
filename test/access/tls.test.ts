import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { openTls } from '../../src/access/tls.js';
import { NO_OPENSSL, selfSigned } from '../support/certificates.js';
import { until } from '../support/until.js';

async function makeCertificate(folder: string, name: string): Promise<{ cert: string; key: string }> {
  const { certFile, keyFile } = await selfSigned(folder, name);
  return { cert: await readFile(certFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
}

test('a renewed certificate is used for new connections, and those that are there stay', {
  skip: NO_OPENSSL,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-tls-'));
  const [first, second] = [await makeCertificate(folder, 'first'), await makeCertificate(folder, 'second')];
  const files = { certFile: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key'), clientCaFile: null };
  await writeFile(files.certFile, first.cert);
  await assert.rejects(openTls(files, { onRenewed() {}, onError() {} }), /tls\.key is not there/);
  await writeFile(files.keyFile, first.key);
  const faults: string[] = [];
  let renewals = 0;
  const tls = await openTls(files, {
    onRenewed: () => void renewals++,
    onError: (error) => void faults.push(error.message),
  });
  const server = createServer(tls.options, (_request, response) => response.end('ok')).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  tls.renewFor(server);
  const { port } = server.address() as AddressInfo;
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: [first.cert, second.cert] });

  const ask = (): Promise<{ localPort: number; subject: string }> =>
    new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port, agent }, (response) => {
        const socket = response.socket as TLSSocket;
        const answer = {
          localPort: socket.localPort ?? 0,
          subject: String(socket.getPeerCertificate().subject.CN),
        };
        response.resume().on('end', () => resolve(answer));
      }).on('error', reject);
    });
  const subjectOfNew = (more = {}): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, ca: [first.cert, second.cert], ...more }, () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
      socket.on('error', reject);
    });

  try {
    const before = await ask();
    assert.equal(before.subject, 'first');
    // One of two files is new: they do not fit together, and what was read before stays in use.
    await writeFile(files.certFile, second.cert);
    await until('a fault to be told', () => faults.length > 0);
    assert.match(faults[0] as string, /not usable for TLS together/);
    assert.equal(await subjectOfNew(), 'first');
    await writeFile(files.keyFile, second.key);
    await until('the second certificate', async () => (await subjectOfNew()) === 'second');
    assert.equal(renewals, 1);
    const after = await ask();
    assert.equal(after.localPort, before.localPort, 'the connection stays');
    await assert.rejects(subjectOfNew({ maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }));
    for (const fault of faults) assert.ok(!fault.includes('PRIVATE'));
  } finally {
    tls.close();
    agent.destroy();
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true, force: true });
  }
});
