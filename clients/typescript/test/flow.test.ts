import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flow, Link } from '../src/flow.js';
import {
  EmbedStreamResponse,
  EmbedStreamResult,
  Dtype,
  type EmbedStreamItem,
  type ItemError,
  type StreamOpened,
} from '../src/protos.js';

const served = (fingerprint: string) => ({ name: '', revision: '', fingerprint });
const VECTOR = { data: Buffer.from('01', 'hex'), dtype: Dtype.DTYPE_I8, dim: 1, scale: 1 };
const OPENED: Partial<StreamOpened> = {
  model: served('one'),
  maxUnansweredItems: 3,
  maxUnansweredBytes: 10n,
  heartbeatIntervalMs: 1000,
  maxMessageBytes: 1000n,
};
const heard = EmbedStreamResponse.fromPartial;

const answer = (id: number, error?: ItemError): EmbedStreamResult => ({
  id: BigInt(id),
  result: error ? { $case: 'error', value: error } : { $case: 'embedding', value: VECTOR },
});

function opened(flow: Flow<string>, facts: Partial<StreamOpened> = {}): Link<string> {
  const link = new Link<string>();
  flow.hear(link, heard({ opened: { ...OPENED, ...facts } }));
  return link;
}

interface Beginning extends Partial<StreamOpened> {
  sizes: number[];
  ordered?: boolean;
  retries?: number;
}

function begun({ sizes, ordered = false, retries = 4, ...facts }: Beginning) {
  const flow = new Flow<string>({ ordered, retries });
  const link = opened(flow, facts);
  for (const size of sizes) {
    const sequence = flow.accepted;
    const content = { $case: 'text', value: 'x'.repeat(size) } as const;
    flow.add({ sequence, key: `key ${sequence}`, content, size, tries: 1 });
  }
  return { flow, link };
}

const ids = (items: EmbedStreamItem[]) => items.map(({ id }) => Number(id));

test('nothing is taken and nothing sent before the stream is opened', () => {
  const flow = new Flow<string>({ ordered: false, retries: 4 });
  assert.equal(flow.hasRoom, false);
  assert.deepEqual(flow.nextItems(new Link()), []);
});

test('no more items are unanswered than the credit, and an answer gives it back', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1, 1, 1] });
  assert.deepEqual(ids(flow.nextItems(link)), [0, 1, 2]);
  assert.deepEqual(flow.nextItems(link), []);
  flow.hear(link, heard({ results: [answer(1)] }));
  assert.deepEqual(ids(flow.nextItems(link)), [3]);
  assert.deepEqual(flow.statistics, { streams: 1, mostUnanswered: 3, allowedUnanswered: 3 });
});

test('nor more bytes; but one that is alone may have any size', () => {
  const { flow, link } = begun({ sizes: [6, 4, 1, 99] });
  assert.deepEqual(ids(flow.nextItems(link)), [0, 1]);
  flow.hear(link, heard({ results: [answer(0)] }));
  assert.deepEqual(ids(flow.nextItems(link)), [2]);
  flow.hear(link, heard({ results: [answer(1), answer(2)] }));
  assert.deepEqual(ids(flow.nextItems(link)), [3]);
});

test('a message stays below the largest that is allowed', () => {
  const { flow, link } = begun({ sizes: [30, 30, 30], maxUnansweredBytes: 1000n, maxMessageBytes: 100n });
  assert.deepEqual(ids(flow.nextItems(link)), [0, 1]);
  assert.deepEqual(ids(flow.nextItems(link)), [2]);
});

test('items are taken from the caller only as results are', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1] });
  flow.nextItems(link);
  flow.hear(link, heard({ results: [answer(0), answer(1), answer(2)] }));
  assert.equal(flow.hasRoom, false);
  assert.equal(flow.take().length, 3);
  assert.equal(flow.hasRoom, true);
});

test('what a lost link has not answered is sent again, in its order, and only that', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1, 1] });
  flow.nextItems(link);
  flow.hear(link, heard({ results: [answer(1)] }));
  flow.lose(link);
  assert.deepEqual(ids(flow.nextItems(opened(flow))), [0, 2, 3]);
});

test('a link that drains gets nothing more', () => {
  const { flow, link } = begun({ sizes: [1] });
  flow.hear(link, heard({ draining: true }));
  assert.deepEqual(flow.nextItems(link), []);
});

test('results come in the order of the items where that is asked for', () => {
  const { flow, link } = begun({ sizes: [1, 1, 1], ordered: true });
  flow.nextItems(link);
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
    assert.deepEqual(ids(flow.nextItems(link)), [0]);
    flow.hear(link, heard({ results: [answer(0, error)] }));
  }
  const [result] = flow.take();
  assert.deepEqual([result?.vector, result?.error?.code, result?.error?.index], [null, 'UNAVAILABLE', 0]);
});

test('vectors of two models are never mixed', () => {
  const { flow } = begun({ sizes: [] });
  assert.throws(() => opened(flow, { model: served('two') }), { reason: 'MODEL_CHANGED' });
});

test('a result that nobody waits for is a fault of the service', () => {
  const { flow, link } = begun({ sizes: [1] });
  assert.throws(() => flow.hear(link, heard({ results: [answer(0)] })), { code: 'INTERNAL' });
});
