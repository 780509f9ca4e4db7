// A stream as an asynchronous iterator: it takes items from the caller as the caller takes results.

import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Bell } from './bell.js';
import { SiglipError, closed } from './errors.js';
import { Flow, Link, type Statistics, type StreamResult } from './flow.js';
import { prepare, type StreamItem } from './items.js';
import { failuresAfter, reopenWaitMs } from './patience.js';
import type { EmbedStreamOptions, EmbedStreamRequest, EmbedStreamResponse } from './protos.js';

export type Call = ClientDuplexStream<EmbedStreamRequest, EmbedStreamResponse>;
export type StreamItems<Key> = Iterable<StreamItem<Key>> | AsyncIterable<StreamItem<Key>>;

// Whoever waits looks so often for itself.
const LOOK_MS = 1_000;

/** Exactly one result for each item. See Client.embedStream. */
export class Stream<Key> implements AsyncIterable<StreamResult<Key>> {
  readonly #open: () => Call;
  readonly #options: EmbedStreamOptions;
  readonly #flow: Flow<Key>;
  readonly #timeoutMs: number;
  readonly #clientEnd: AbortSignal;
  readonly #results: AsyncGenerator<StreamResult<Key>, void>;
  readonly #bell = new Bell();
  readonly #closing = new AbortController();
  #error: { thrown: unknown } | undefined;
  #lastFailure: SiglipError | undefined;

  /** open: begins a call; options: its first message. */
  constructor(
    open: () => Call,
    options: EmbedStreamOptions,
    items: StreamItems<Key>,
    { retries, timeoutMs, clientEnd }: { retries: number; timeoutMs: number; clientEnd: AbortSignal },
  ) {
    this.#open = open;
    this.#options = options;
    this.#timeoutMs = timeoutMs;
    this.#clientEnd = clientEnd;
    this.#flow = new Flow({ ordered: options.ordered, retries });
    this.#results = this.#run(items);
  }

  /** As of now. */
  get statistics(): Statistics {
    return { ...this.#flow.statistics };
  }

  [Symbol.asyncIterator](): AsyncGenerator<StreamResult<Key>, void> {
    return this.#results;
  }

  async *#run(items: StreamItems<Key>): AsyncGenerator<StreamResult<Key>, void> {
    const leave = () => this.#leave();
    if (this.#clientEnd.aborted) leave();
    this.#clientEnd.addEventListener('abort', leave);
    for (const work of [this.#feed(items), this.#keep()]) work.catch((error: unknown) => this.#fail(error));
    try {
      for (let ready; (ready = await this.#ready()).length > 0;) yield* ready;
    } finally {
      this.#clientEnd.removeEventListener('abort', leave);
      this.#closing.abort();
      this.#bell.ring();
    }
  }

  get #ended(): boolean {
    return this.#closing.signal.aborted || this.#error !== undefined;
  }

  /** The client is closed. */
  #leave(): void {
    this.#fail(closed());
    this.#closing.abort();
  }

  #fail(thrown: unknown): void {
    this.#error ??= { thrown };
    this.#bell.ring();
  }

  /** The results that came; none when all have been given. */
  async #ready(): Promise<StreamResult<Key>[]> {
    const sinceMs = performance.now();
    for (;;) {
      const ready = this.#flow.take();
      this.#bell.ring();
      if (ready.length > 0) return ready;
      if (this.#error) throw this.#error.thrown;
      if (this.#flow.allAnswered) return [];
      await this.#bell.wait(Math.min(LOOK_MS, this.#leftMs(sinceMs)));
    }
  }

  /** Until it takes too long. Only the time counts in which somebody waits, for an answer of the service. */
  #leftMs(sinceMs: number): number {
    const { opened, unfinished, progressMs } = this.#flow;
    if (opened && unfinished === 0) return LOOK_MS;
    const leftMs = Math.max(sinceMs, progressMs) + this.#timeoutMs - performance.now();
    if (leftMs > 0) return leftMs;
    const why = this.#lastFailure ? `; the last failure: ${this.#lastFailure.message}` : '';
    throw new SiglipError('DEADLINE_EXCEEDED', `no item was answered for ${this.#timeoutMs} ms${why}`);
  }

  async #feed(items: StreamItems<Key>): Promise<void> {
    let opened = await this.#room();
    if (!opened) return;
    for await (const item of items) {
      this.#flow.add(prepare(this.#flow.accepted, item, opened));
      this.#bell.ring();
      opened = await this.#room();
      if (!opened) return;
    }
    this.#flow.exhausted = true;
    this.#bell.ring();
  }

  /** Waits for it; nothing when the stream has ended, else what holds for items. */
  async #room() {
    while (!this.#flow.hasRoom && !this.#ended) await this.#bell.wait(LOOK_MS);
    return this.#ended ? undefined : this.#flow.opened;
  }

  /** Has a call, and another one when that ends, until all is answered. */
  async #keep(): Promise<void> {
    let failures = 0;
    while (!this.#ended && !this.#flow.allAnswered) {
      const link = new Link<Key>();
      const error = await this.#converse(link);
      failures = failuresAfter(link, failures);
      const waitMs = reopenWaitMs(error, failures);
      if (waitMs === undefined) throw error;
      this.#lastFailure = error;
      await sleep(waitMs, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }

  /** One call from its beginning to its end, which may be an error. */
  async #converse(link: Link<Key>): Promise<SiglipError | undefined> {
    const call = this.#open();
    const stop = () => cancel(call);
    this.#closing.signal.addEventListener('abort', stop);
    const watch = setInterval(() => void this.#cancelSilent(link, call), LOOK_MS);
    this.#send(link, call).catch((error: unknown) => this.#fail(error));
    const error = await this.#listen(link, call);
    this.#flow.lose(link);
    this.#bell.ring();
    clearInterval(watch);
    this.#closing.signal.removeEventListener('abort', stop);
    return error;
  }

  #listen(link: Link<Key>, call: Call): Promise<SiglipError | undefined> {
    return new Promise((resolve) => {
      call.on('data', (response: EmbedStreamResponse) => this.#hear(link, call, response));
      call.on('drain', () => this.#bell.ring());
      call.on('error', (error: ServiceError) => resolve(SiglipError.from(error)));
      call.on('end', () => resolve(undefined));
    });
  }

  #hear(link: Link<Key>, call: Call, response: EmbedStreamResponse): void {
    if (link.ended) return;
    try {
      this.#flow.hear(link, response);
    } catch (error) {
      this.#fail(error);
      cancel(call);
    }
    this.#lastFailure = undefined;
    this.#bell.ring();
  }

  /** Only after what has arrived is read: this program may have been busy itself. */
  async #cancelSilent(link: Link<Key>, call: Call): Promise<void> {
    await setImmediate();
    if (performance.now() >= link.silentMs) call.cancel();
  }

  async #send(link: Link<Key>, call: Call): Promise<void> {
    call.write({ options: this.#options, items: [] });
    while (!(link.ended || link.draining || this.#ended || this.#flow.allAnswered)) {
      const items = call.writableNeedDrain ? [] : this.#flow.nextItems(link);
      if (items.length > 0) call.write({ options: undefined, items });
      else await this.#news();
    }
    if (!link.ended) call.end();
  }

  /** With all that came at one time: items go out in chunks, not one by one. */
  async #news(): Promise<void> {
    await this.#bell.wait(LOOK_MS);
    await setImmediate();
  }
}

/** Not at once: a call that is cancelled as it begins goes out nevertheless, and nobody ends it (grpc-js 1.14). */
const cancel = (call: Call) => void setImmediate().then(() => call.cancel());
