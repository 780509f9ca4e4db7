// Calls to a gateway of this process that does what its test says, over real gRPC.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { ClientOptions } from '../src/client.js';
import { SiglipError } from '../src/index.js';
import { EmbedTextsResponse } from '../src/protos.js';
import { LIMIT, failure, withGateway, type TextsScript } from './gateway.js';

const { UNAVAILABLE, RESOURCE_EXHAUSTED, CANCELLED } = status;
const fails =
  (code: status, pushbackMs?: number): TextsScript =>
  (_, answer) =>
    answer(failure(code, pushbackMs));
const ANSWERED = { result: { $case: 'error', value: { code: 3, reason: 'ANSWERED' } } } as const;
const answers: TextsScript = (call, answer) =>
  answer(null, EmbedTextsResponse.fromPartial({ results: call.request.texts.map(() => ANSWERED) }));

/** How many calls came, and how the last one ended. */
const outcome = (scripts: TextsScript[], texts: string[], options: ClientOptions = {}) =>
  withGateway(
    { embedTexts: scripts },
    async (client, calls) => {
      try {
        const { items } = await client.embedTexts(texts, options);
        return [calls(), items[0]?.error?.reason];
      } catch (error) {
        return [calls(), error instanceof SiglipError && error.code];
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

test('a text that UTF-8 cannot hold is not sent as another one', LIMIT, () =>
  withGateway({ embedTexts: [answers] }, (client) =>
    assert.rejects(client.embedTexts(['a', '\ud800']), /texts\[1\] has a lone surrogate/),
  ),
);
