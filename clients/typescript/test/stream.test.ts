// The stream against a gateway of this process that does what its test says, over real gRPC.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { StreamOptions } from '../src/client.js';
import { Dtype, type Client, type StreamItem } from '../src/index.js';
import { EmbedStreamResponse, StreamOpened, type EmbedStreamItem } from '../src/protos.js';
import { LIMIT, fail, withGateway, type StreamCall, type StreamScript } from './gateway.js';

const HEARTBEAT = EmbedStreamResponse.fromPartial({});
const OPENED = StreamOpened.fromPartial({
  model: { fingerprint: 'one' },
  maxUnansweredItems: 10,
  maxUnansweredBytes: 1000n,
  heartbeatIntervalMs: 1000,
  maxMessageBytes: 10_000n,
  maxTextBytes: 100n,
});

const result = ({ id, content }: EmbedStreamItem) => {
  const data = Buffer.from([Number(content?.value)]);
  return {
    id,
    result: { $case: 'embedding', value: { data, dtype: Dtype.DTYPE_I8, dim: 1, scale: 1 } },
  } as const;
};

interface Behaviour {
  opened?: Partial<StreamOpened>;
  answers?: (items: EmbedStreamItem[]) => EmbedStreamItem[];
  then?: () => void;
}

/** Opens a stream, and answers what `answers` picks of each message; all by default. */
function serve(call: StreamCall, { opened, answers = (items) => items, then = () => {} }: Behaviour = {}) {
  const say = (message: Partial<EmbedStreamResponse>) => call.write({ ...HEARTBEAT, ...message });
  call.on('data', ({ options, items }) => {
    if (options) say({ opened: { ...OPENED, ...opened } });
    const picked = answers(items);
    if (picked.length > 0) say({ results: picked.map(result) });
    if (items.length > 0) then();
  });
  call.on('end', () => call.end());
  call.on('error', () => {}); // a client that leaves
}

const plainly: StreamScript = (call: StreamCall) => serve(call);

const withStreams = (scripts: StreamScript[], use: (client: Client, calls: () => number) => Promise<void>) =>
  withGateway({ embedStream: scripts }, use);

const numbers = (count: number) => Array.from({ length: count }, (_, key) => ({ key, text: String(key) }));

/** Each of `count` items has exactly one result, the right one. */
async function complete(client: Client, count: number, options: StreamOptions = {}) {
  const stream = client.embedStream(numbers(count), options);
  const found = new Map<number, number | undefined>();
  for await (const { key, vector } of stream) {
    assert.ok(!found.has(key), `${key} came twice`);
    found.set(key, vector?.[0]);
  }
  for (const { key } of numbers(count)) assert.equal(found.get(key), key);
  return stream.statistics;
}

test('every item has one result, within the credit', LIMIT, () =>
  withStreams([plainly], async (client) => {
    const { streams, mostUnanswered } = await complete(client, 100);
    assert.deepEqual([streams, mostUnanswered], [1, 10]);
  }),
);

test('a stream that breaks is opened again, and what is unanswered sent again', LIMIT, () => {
  const breaks = (call: StreamCall) =>
    serve(call, {
      answers: (items) => items.filter(({ id }) => id % 2n),
      then: () => fail(call, status.UNAVAILABLE),
    });
  return withStreams([breaks, breaks, plainly], async (client, calls) => {
    assert.equal((await complete(client, 50)).streams, 3);
    assert.equal(calls(), 3);
  });
});

test('after draining nothing is sent, what was sent is answered, and another stream opened', LIMIT, () => {
  const late: EmbedStreamItem[] = [];
  let drains = false;
  const draining = (call: StreamCall) => {
    call.on('data', ({ items }) => drains && late.push(...items));
    serve(call, {
      then: () => {
        drains = true;
        call.write({ ...HEARTBEAT, draining: true });
      },
    });
  };
  return withStreams([draining, plainly], async (client) => {
    assert.equal((await complete(client, 50)).streams, 2);
    assert.deepEqual(late, []);
  });
});

test('without heartbeats a stream is lost', LIMIT, () => {
  const silent = (call: StreamCall) =>
    serve(call, { opened: { heartbeatIntervalMs: 100 }, answers: () => [] });
  return withStreams([silent, plainly], async (client) => {
    assert.equal((await complete(client, 5)).streams, 2);
  });
});

test('an overloaded gateway is asked again when it says so', LIMIT, () => {
  const full = (call: StreamCall) => fail(call, status.RESOURCE_EXHAUSTED, 10);
  return withStreams([full, plainly], async (client) => void (await complete(client, 5)));
});

test('and not where it does not', LIMIT, () => {
  const full = (call: StreamCall) => fail(call, status.RESOURCE_EXHAUSTED);
  return withStreams([full, plainly], (client) =>
    assert.rejects(complete(client, 5), { code: 'RESOURCE_EXHAUSTED', message: 'as the test says' }),
  );
});

test('without any result the stream ends in time', LIMIT, () => {
  const silent = (call: StreamCall) => serve(call, { answers: () => [] });
  return withStreams([silent], (client) =>
    assert.rejects(complete(client, 5, { timeoutMs: 200 }), { code: 'DEADLINE_EXCEEDED' }),
  );
});

test('a stream that is left as it begins leaves nothing behind', LIMIT, () => {
  let open = 0;
  const counted = (call: StreamCall) => {
    open += 1;
    call.on('close', () => (open -= 1));
    serve(call);
  };
  return withStreams([counted], async (client) => {
    await complete(client, 1); // connected
    await assert.rejects(complete(client, 1, { timeoutMs: -1 }), { code: 'DEADLINE_EXCEEDED' });
    await complete(client, 1);
    while (open > 0) await new Promise(setImmediate);
  });
});

test('items are taken only as fast as results are, and leaving the loop ends all', LIMIT, () =>
  withStreams([plainly], async (client) => {
    let taken = 0;
    let ended = false;
    async function* endless(): AsyncGenerator<StreamItem<number>> {
      try {
        for (;;) yield { key: taken, text: String(taken++ % 100) };
      } finally {
        ended = true;
      }
    }
    for await (const { key } of client.embedStream(endless())) {
      assert.ok(taken <= key + 1 + 2 * 10, `${taken} taken when the result of ${key} came`);
      if (key === 200) break;
    }
    while (!ended) await new Promise(setImmediate);
  }),
);

test("an error of the items is the caller's", LIMIT, () =>
  withStreams([plainly], async (client) => {
    async function* items() {
      yield { key: 1, text: '1' };
      throw new Error('the disk is gone');
    }
    const read = async () => {
      for await (const { key } of client.embedStream(items())) assert.equal(key, 1);
    };
    await assert.rejects(read(), /the disk is gone/);
  }),
);

test('what the service would not take is an error of its item', LIMIT, () =>
  withStreams([plainly], async (client) => {
    const items = [
      { key: 'long', text: '1'.repeat(101) },
      { key: 'lone', text: '\ud800' },
      { key: 'good', text: '7' },
    ];
    const found: Record<string, unknown> = {};
    for await (const { key, vector, error } of client.embedStream(items))
      found[key] = error?.reason ?? vector?.[0];
    assert.deepEqual(found, { long: 'TEXT_TOO_LONG', lone: 'TEXT_NOT_UNICODE', good: 7 });
  }),
);

test('a client that is closed ends its streams, and takes no calls', LIMIT, () =>
  withStreams([plainly], async (client) => {
    async function* items() {
      yield { key: 1, text: '1' };
      await new Promise<never>(() => {});
    }
    const read = async () => {
      for await (const { key } of client.embedStream(items())) {
        assert.equal(key, 1);
        client.close();
      }
    };
    const refused = { name: 'SiglipError', code: 'UNAVAILABLE', message: 'the client is closed' };
    await assert.rejects(read(), refused);
    await assert.rejects(read(), refused);
    await assert.rejects(client.getModel(), refused);
  }),
);
