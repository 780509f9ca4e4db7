import assert from 'node:assert/strict';
import { test } from 'node:test';
import grpc from '@grpc/grpc-js';
import { channelOptions, credentials, isLocal } from '../lib/channel.js';
import { SiglipError, retryWaitMs, richDetails } from '../lib/errors.js';

test('retries are those that gRPC does', () => {
  const { methodConfig } = JSON.parse(channelOptions('localhost:1', 3)['grpc.service_config']);
  assert.equal(methodConfig[0].retryPolicy.maxAttempts, 4);
  assert.equal(JSON.parse(channelOptions('localhost:1', 0)['grpc.service_config']).methodConfig, undefined);
  assert.throws(() => channelOptions('localhost:1', 5), /between 0 and 4, not 5/);
});

test('a token travels in clear only on this machine', () => {
  for (const address of ['localhost:1', '127.0.0.9:1', 'dns:///localhost:1', 'unix:/x', 'ipv6:[::1]:1']) {
    assert.ok(isLocal(address), address);
  }
  for (const address of [
    'example.org:1',
    '10.0.0.1:1',
    'ipv4:127.0.0.1:1,10.0.0.1:1',
    '127.0.0.1.example.org:1',
  ]) {
    assert.ok(!isLocal(address), address);
  }
  assert.throws(() => credentials('example.org:1', { token: 'secret' }), /in clear to example.org:1/);
});

// Status{8, "full", [ErrorInfo{"QUEUE_FULL", "siglip.v1"}, RetryInfo{1.5 s}]}, as Python writes it.
const DETAILS =
  '0808120466756c6c1a430a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e4572726f72496e666f' +
  '12170a0a51554555455f46554c4c12097369676c69702e76311a360a28747970652e676f6f676c65617069732e636f6d2f676f6f' +
  '676c652e7270632e5265747279496e666f120a0a0808011080cab5ee01';

function failed(code, pushback) {
  const metadata = new grpc.Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(DETAILS, 'hex'));
  if (pushback) metadata.set('grpc-retry-pushback-ms', pushback);
  return SiglipError.from({ code, details: 'full', metadata });
}

test('an error tells what the service says', () => {
  const error = failed(grpc.status.RESOURCE_EXHAUSTED, '1500');
  assert.deepEqual(
    [error.code, error.message, error.reason, error.domain, error.retryDelayMs, error.pushbackMs],
    ['RESOURCE_EXHAUSTED', 'full', 'QUEUE_FULL', 'siglip.v1', 1500, 1500],
  );
});

test('details that cannot be read are none', () => {
  assert.deepEqual(richDetails(Buffer.from('ff', 'hex')), {});
});

test('an overloaded call is sent again only when the service says when, and before the deadline', () => {
  const { RESOURCE_EXHAUSTED, INTERNAL } = grpc.status;
  const waitMs = retryWaitMs(failed(RESOURCE_EXHAUSTED, '1500'), 10_000);
  assert.ok(waitMs >= 1500 && waitMs <= 1875, String(waitMs));
  assert.equal(retryWaitMs(failed(RESOURCE_EXHAUSTED, '1500'), 1_000), null);
  assert.equal(retryWaitMs(failed(RESOURCE_EXHAUSTED), 10_000), null);
  assert.equal(retryWaitMs(failed(RESOURCE_EXHAUSTED, '-1'), 10_000), null);
  assert.equal(retryWaitMs(failed(RESOURCE_EXHAUSTED, 'soon'), 10_000), null);
  assert.equal(retryWaitMs(failed(INTERNAL, '1500'), 10_000), null);
});
