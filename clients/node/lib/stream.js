// A stream as an asynchronous iterator: it takes items from the caller as the caller takes results.

import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { Bell } from './bell.js';
import { SiglipError, closed } from './errors.js';
import { Flow, Link } from './flow.js';
import { prepare } from './items.js';
import { failuresAfter, reopenWaitMs } from './patience.js';

// Whoever waits looks so often for itself.
const LOOK_MS = 1_000;

/** Exactly one result for each item: {key, vector, dtype, error}. See Client.embedStream. */
export class Stream {
  #open;
  #first;
  #flow;
  #timeoutMs;
  #clientEnd;
  #results;
  #bell = new Bell();
  #closing = new AbortController();
  #error = null;
  #lastFailure = null;

  /** open: () => a new call; first: the message that begins it. */
  constructor(open, first, items, { retries, timeoutMs, clientEnd }) {
    this.#open = open;
    this.#first = first;
    this.#timeoutMs = timeoutMs;
    this.#clientEnd = clientEnd;
    this.#flow = new Flow({ ordered: first.options.ordered, retries });
    this.#results = this.#run(items);
  }

  /** Of now: `streams` that were opened, `mostUnanswered` items at any time, `allowedUnanswered` at least. */
  get statistics() {
    return { ...this.#flow.statistics };
  }

  [Symbol.asyncIterator]() {
    return this.#results;
  }

  async *#run(items) {
    const leave = () => this.#leave();
    if (this.#clientEnd.aborted) leave();
    this.#clientEnd.addEventListener('abort', leave);
    for (const work of [this.#feed(items), this.#keep()]) work.catch((error) => this.#fail(error));
    try {
      for (let ready; (ready = await this.#ready()).length > 0;) yield* ready;
    } finally {
      this.#clientEnd.removeEventListener('abort', leave);
      this.#closing.abort();
      this.#bell.ring();
    }
  }

  get #ended() {
    return this.#closing.signal.aborted || this.#error !== null;
  }

  /** The client is closed. */
  #leave() {
    this.#fail(closed());
    this.#closing.abort();
  }

  #fail(error) {
    this.#error ??= error;
    this.#bell.ring();
  }

  /** The results that came; none when all have been given. */
  async #ready() {
    const sinceMs = performance.now();
    for (;;) {
      const ready = this.#flow.take();
      this.#bell.ring();
      if (ready.length > 0) return ready;
      if (this.#error) throw this.#error;
      if (this.#flow.allAnswered) return [];
      await this.#bell.wait(Math.min(LOOK_MS, this.#leftMs(sinceMs)));
    }
  }

  /** Until it takes too long. Only the time counts in which somebody waits, for an answer of the service. */
  #leftMs(sinceMs) {
    const { opened, unfinished, progressMs } = this.#flow;
    if (opened && unfinished === 0) return LOOK_MS;
    const leftMs = Math.max(sinceMs, progressMs) + this.#timeoutMs - performance.now();
    if (leftMs > 0) return leftMs;
    const why = this.#lastFailure ? `; the last failure: ${this.#lastFailure.message}` : '';
    throw new SiglipError('DEADLINE_EXCEEDED', `no item was answered for ${this.#timeoutMs} ms${why}`);
  }

  async #feed(items) {
    if (!(await this.#room())) return;
    for await (const item of items) {
      this.#flow.add(prepare(this.#flow.accepted, item, this.#flow.opened));
      this.#bell.ring();
      if (!(await this.#room())) return;
    }
    this.#flow.exhausted = true;
    this.#bell.ring();
  }

  /** Waits for it; false when the stream has ended. */
  async #room() {
    while (!this.#flow.hasRoom && !this.#ended) await this.#bell.wait(LOOK_MS);
    return !this.#ended;
  }

  /** Has a call, and another one when that ends, until all is answered. */
  async #keep() {
    let failures = 0;
    while (!this.#ended && !this.#flow.allAnswered) {
      const link = new Link();
      const error = await this.#converse(link);
      failures = failuresAfter(link, failures);
      const waitMs = reopenWaitMs(error, failures);
      if (waitMs === null) throw error;
      this.#lastFailure = error;
      await sleep(waitMs, undefined, { signal: this.#closing.signal }).catch(() => {});
    }
  }

  /** One call from its beginning to its end, which is null or an error. */
  async #converse(link) {
    const call = this.#open();
    const stop = () => cancel(call);
    this.#closing.signal.addEventListener('abort', stop);
    const watch = setInterval(() => this.#cancelSilent(link, call), LOOK_MS);
    this.#send(link, call).catch((error) => this.#fail(error));
    const error = await this.#listen(link, call);
    this.#flow.lose(link);
    this.#bell.ring();
    clearInterval(watch);
    this.#closing.signal.removeEventListener('abort', stop);
    return error;
  }

  #listen(link, call) {
    return new Promise((resolve) => {
      call.on('data', (response) => this.#hear(link, call, response));
      call.on('drain', () => this.#bell.ring());
      call.on('error', (error) => resolve(SiglipError.from(error)));
      call.on('end', () => resolve(null));
    });
  }

  #hear(link, call, response) {
    if (link.ended) return;
    try {
      this.#flow.hear(link, response);
    } catch (error) {
      this.#fail(error);
      cancel(call);
    }
    this.#lastFailure = null;
    this.#bell.ring();
  }

  /** Only after what has arrived is read: this program may have been busy itself. */
  async #cancelSilent(link, call) {
    await setImmediate();
    if (performance.now() >= link.silentMs) call.cancel();
  }

  async #send(link, call) {
    call.write(this.#first);
    while (!(link.ended || link.draining || this.#ended || this.#flow.allAnswered)) {
      const message = call.writableNeedDrain ? null : this.#flow.nextMessage(link);
      if (message) call.write(message);
      else await this.#news();
    }
    if (!link.ended) call.end();
  }

  /** With all that came at one time: items go out in chunks, not one by one. */
  async #news() {
    await this.#bell.wait(LOOK_MS);
    await setImmediate();
  }
}

/** Not at once: a call that is cancelled as it begins goes out nevertheless, and nobody ends it (grpc-js 1.14). */
const cancel = (call) => void setImmediate().then(() => call.cancel());
