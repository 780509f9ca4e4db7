// Calls to a gateway of this process that does what its test says, over real gRPC.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import grpc from '@grpc/grpc-js';
import { LIMIT, failure, withGateway } from './gateway.js';

const { UNAVAILABLE, RESOURCE_EXHAUSTED, CANCELLED } = grpc.status;
const fails = (code, pushbackMs) => (call, answer) => answer(failure(code, pushbackMs));
const answers = (call, answer) =>
  answer(null, { results: call.request.texts.map(() => ({ error: { code: 3, reason: 'ANSWERED' } })) });

/** How many calls came, and how the last one ended. */
const outcome = (scripts, texts, options) =>
  withGateway(
    { EmbedTexts: scripts },
    async (client, calls) => {
      try {
        const { items } = await client.embedTexts(texts, options);
        return [calls(), items[0].error.reason];
      } catch (error) {
        return [calls(), error.code];
      }
    },
    options,
  );

test('what passes is tried again, also with a large request', LIMIT, async () => {
  const scripts = [fails(UNAVAILABLE), fails(RESOURCE_EXHAUSTED, 10), fails(CANCELLED), answers];
  assert.deepEqual(await outcome(scripts, ['a']), [4, 'ANSWERED']);
  assert.deepEqual(await outcome([fails(UNAVAILABLE), answers], ['x'.repeat(20_000_000)]), [2, 'ANSWERED']);
});

test('what does not pass is not', LIMIT, async () => {
  assert.deepEqual(await outcome([fails(RESOURCE_EXHAUSTED), answers], ['a']), [1, 'RESOURCE_EXHAUSTED']);
  assert.deepEqual(await outcome([fails(RESOURCE_EXHAUSTED, -1), answers], ['a']), [1, 'RESOURCE_EXHAUSTED']);
  assert.deepEqual(await outcome([fails(UNAVAILABLE, -1), answers], ['a']), [1, 'UNAVAILABLE']);
});

test('no more often than allowed', LIMIT, async () => {
  assert.deepEqual(await outcome([fails(UNAVAILABLE)], ['a'], { retries: 2 }), [3, 'UNAVAILABLE']);
  assert.deepEqual(await outcome([fails(UNAVAILABLE)], ['a'], { retries: 0 }), [1, 'UNAVAILABLE']);
  assert.deepEqual(await outcome([fails(RESOURCE_EXHAUSTED, 1)], ['a'], { retries: 2 }), [
    3,
    'RESOURCE_EXHAUSTED',
  ]);
});

test('no call outlives its time', LIMIT, async () => {
  assert.deepEqual(await outcome([() => {}], ['a'], { timeoutMs: 100 }), [1, 'DEADLINE_EXCEEDED']);
  assert.deepEqual(await outcome([answers], ['a'], { timeoutMs: -1 }), [0, 'DEADLINE_EXCEEDED']);
  await assert.rejects(
    withGateway({}, (client) => client.getModel({ timeoutMs: NaN })),
    TypeError,
  );
});

test('what is not what it should be is not sent as something else', LIMIT, () =>
  withGateway({ EmbedTexts: [answers] }, async (client) => {
    await assert.rejects(client.embedTexts(['a', '\ud800']), /texts\[1\] has a lone surrogate/);
    await assert.rejects(client.embedTexts(['a', null]), /texts\[1\] is no string/);
    await assert.rejects(client.embedTexts('a'), /texts must be an array/);
    await assert.rejects(client.embedImages(['photo.jpg']), /images\[0\] is no Uint8Array/);
  }),
);
