import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flow, Link } from '../lib/flow.js';

const OPENED = {
  model: { fingerprint: 'one' },
  maxUnansweredItems: 3,
  maxUnansweredBytes: 10,
  heartbeatIntervalMs: 1000,
  maxMessageBytes: 1000,
};
const heard = (facts) => ({ opened: null, results: [], draining: false, ...facts });
const answer = (id, error) =>
  error
    ? { id, error }
    : { id, embedding: { data: Buffer.from('01', 'hex'), dtype: 'DTYPE_I8', dim: 1, scale: 1 } };

function opened(flow, facts = {}) {
  const link = new Link();
  flow.hear(link, heard({ opened: { ...OPENED, ...facts } }));
  return link;
}

function begun({ sizes, ordered = false, retries = 4, ...facts }) {
  const flow = new Flow({ ordered, retries });
  const link = opened(flow, facts);
  for (const size of sizes) {
    const sequence = flow.accepted;
    flow.add({ sequence, key: `key ${sequence}`, content: { text: 'x'.repeat(size) }, size, tries: 1 });
  }
  return { flow, link };
}

const ids = (message) => message && message.items.map(({ id }) => id);

test('nothing is taken and nothing sent before the stream is opened', () => {
  const flow = new Flow({ ordered: false, retries: 4 });
  assert.equal(flow.hasRoom, false);
  assert.equal(flow.nextMessage(new Link()), null);
});

test('no more items are unanswered than the credit, and an answer gives it back', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1, 1, 1] });
  assert.deepEqual(ids(flow.nextMessage(link)), [0, 1, 2]);
  assert.equal(flow.nextMessage(link), null);
  flow.hear(link, heard({ results: [answer(1)] }));
  assert.deepEqual(ids(flow.nextMessage(link)), [3]);
  assert.deepEqual(flow.statistics, { streams: 1, mostUnanswered: 3, allowedUnanswered: 3 });
});

test('nor more bytes; but one that is alone may have any size', () => {
  const { flow, link } = begun({ sizes: [6, 4, 1, 99] });
  assert.deepEqual(ids(flow.nextMessage(link)), [0, 1]);
  flow.hear(link, heard({ results: [answer(0)] }));
  assert.deepEqual(ids(flow.nextMessage(link)), [2]);
  flow.hear(link, heard({ results: [answer(1), answer(2)] }));
  assert.deepEqual(ids(flow.nextMessage(link)), [3]);
});

test('a message stays below the largest that is allowed', () => {
  const { flow, link } = begun({ sizes: [30, 30, 30], maxUnansweredBytes: 1000, maxMessageBytes: 100 });
  assert.deepEqual(ids(flow.nextMessage(link)), [0, 1]);
  assert.deepEqual(ids(flow.nextMessage(link)), [2]);
});

test('items are taken from the caller only as results are', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1] });
  flow.nextMessage(link);
  flow.hear(link, heard({ results: [answer(0), answer(1), answer(2)] }));
  assert.equal(flow.hasRoom, false);
  assert.equal(flow.take().length, 3);
  assert.equal(flow.hasRoom, true);
});

test('what a lost link has not answered is sent again, in its order, and only that', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1, 1] });
  flow.nextMessage(link);
  flow.hear(link, heard({ results: [answer(1)] }));
  flow.lose(link);
  assert.deepEqual(ids(flow.nextMessage(opened(flow))), [0, 2, 3]);
});

test('a link that drains gets nothing more', () => {
  const { flow, link } = begun({ sizes: [1] });
  flow.hear(link, heard({ draining: true }));
  assert.equal(flow.nextMessage(link), null);
});

test('results come in the order of the items where that is asked for', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1], ordered: true });
  flow.nextMessage(link);
  flow.hear(link, heard({ results: [answer(2), answer(1)] }));
  assert.deepEqual(flow.take(), []);
  flow.hear(link, heard({ results: [answer(0)] }));
  assert.deepEqual(
    flow.take().map(({ key }) => key),
    ['key 0', 'key 1', 'key 2'],
  );
});

test('an item that may succeed is sent again, so often; then its error is its result', () => {
  const { flow, link } = begun({ sizes: [1], retries: 1 });
  const error = { index: 7, code: 14, reason: 'BUSY', message: 'busy', field: 'items[7]', retryable: true };
  for (let attempt = 0; attempt < 2; attempt++) {
    assert.deepEqual(ids(flow.nextMessage(link)), [0]);
    flow.hear(link, heard({ results: [answer(0, error)] }));
  }
  const [result] = flow.take();
  assert.deepEqual([result.vector, result.error.code, result.error.index], [null, 'UNAVAILABLE', 0]);
});

test('vectors of two models are never mixed', () => {
  const { flow } = begun({ sizes: [] });
  assert.throws(() => opened(flow, { model: { fingerprint: 'two' } }), { reason: 'MODEL_CHANGED' });
});

test('a result that nobody waits for is a fault of the service', () => {
  const { flow, link } = begun({ sizes: [1] });
  assert.throws(() => flow.hear(link, heard({ results: [answer(0)] })), { code: 'INTERNAL' });
});
