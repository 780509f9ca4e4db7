// Who has which item of a stream: free of any transport.
//
// Items come in as the window has room, go out over the link that has credit, and come back as results. A
// link that is lost gives back what it has not answered, so that each item has exactly one result.

import { SiglipError } from './errors.js';
import { decodeItem } from './results.js';

// Of one message. More only delays the first of them.
const CHUNK_ITEMS = 64;
const CHUNK_BYTES = 1024 * 1024;
const ITEM_OVERHEAD_BYTES = 16;
// Heartbeats that may fail to come.
const MISSED = 3;
const FIRST_INTERVAL_MS = 10_000;

/** One stream to a gateway: what it lets us send, and what it has not answered. */
export class Link {
  opened = null;
  unanswered = new Map(); // sequence -> entry
  usedBytes = 0;
  draining = false;
  ended = false;
  answered = false;
  heardMs = performance.now();

  /** When its next heartbeat is overdue, by performance.now(). */
  get silentMs() {
    return this.heardMs + MISSED * (this.opened?.heartbeatIntervalMs || FIRST_INTERVAL_MS);
  }

  /** For an item of so many bytes; one that is alone may have any size. */
  hasRoom(size) {
    if (!this.opened || this.draining || this.ended) return false;
    if (this.unanswered.size === 0) return true;
    const { maxUnansweredItems, maxUnansweredBytes } = this.opened;
    return this.unanswered.size < maxUnansweredItems && this.usedBytes + size <= maxUnansweredBytes;
  }
}

export class Flow {
  opened = null; // the newest
  accepted = 0; // items so far: the next one's sequence
  exhausted = false; // no more items come
  progressMs = performance.now();
  statistics = { streams: 0, mostUnanswered: 0, allowedUnanswered: Infinity };
  #ordered;
  #retries;
  #fingerprint = null;
  #waiting = []; // entries, to be sent
  #ready = []; // results, to be taken
  #early = new Map(); // results that wait for those before them
  #next = 0;
  #taken = 0;
  #unfinishedBytes = 0;

  constructor({ ordered, retries }) {
    this.#ordered = ordered;
    this.#retries = retries;
  }

  /** Whether one item more may be taken from the caller. */
  get hasRoom() {
    if (!this.opened) return false;
    const held = this.accepted - this.#taken;
    const { maxUnansweredItems, maxUnansweredBytes } = this.opened;
    return held === 0 || (held < maxUnansweredItems && this.#unfinishedBytes < maxUnansweredBytes);
  }

  /** Items that have no result yet. */
  get unfinished() {
    return this.accepted - this.#taken - this.#ready.length - this.#early.size;
  }

  /** Nothing needs to be sent any more. */
  get allAnswered() {
    return this.exhausted && this.unfinished === 0;
  }

  /** The entry of the next item. */
  add(entry) {
    if (this.unfinished === 0) this.progressMs = performance.now();
    this.accepted += 1;
    this.#unfinishedBytes += entry.size;
    if (entry.error) this.#finish(entry, { vector: null, dtype: null, error: entry.error });
    else this.#waiting.push(entry);
  }

  /** As much as waits, fits into one message and the link has credit for; null: nothing. */
  nextMessage(link) {
    const mostBytes = Math.min(CHUNK_BYTES, link.opened?.maxMessageBytes ?? 0);
    const items = [];
    let bytes = 0;
    while (this.#waiting.length > 0 && items.length < CHUNK_ITEMS && link.hasRoom(this.#waiting[0].size)) {
      bytes += this.#waiting[0].size + ITEM_OVERHEAD_BYTES;
      if (items.length > 0 && bytes > mostBytes) break;
      items.push(this.#send(link, this.#waiting.shift()));
    }
    return items.length > 0 ? { items } : null;
  }

  /** A message of the link. Throws a SiglipError for one that must not be. */
  hear(link, { opened, results, draining }) {
    link.heardMs = performance.now();
    if (opened) this.#open(link, opened);
    link.draining ||= draining;
    for (const result of results) this.#read(link, result);
  }

  /** The link has ended; what it has not answered waits again, before all others. */
  lose(link) {
    const lost = [...link.unanswered.values()].sort((one, other) => one.sequence - other.sequence);
    this.#waiting = [...lost, ...this.#waiting];
    link.unanswered.clear();
    link.ended = true;
  }

  /** The results that are ready. */
  take() {
    const taken = this.#ready;
    this.#ready = [];
    this.#taken += taken.length;
    return taken;
  }

  #open(link, opened) {
    this.#fingerprint ??= opened.model.fingerprint;
    if (opened.model.fingerprint !== this.#fingerprint) {
      const change = `from ${this.#fingerprint} to ${opened.model.fingerprint}`;
      throw new SiglipError('INTERNAL', `the served model changed ${change}`, { reason: 'MODEL_CHANGED' });
    }
    this.progressMs = this.opened ? this.progressMs : performance.now();
    link.opened = this.opened = opened;
    this.statistics.streams += 1;
    const allowed = Math.min(this.statistics.allowedUnanswered, opened.maxUnansweredItems);
    this.statistics.allowedUnanswered = allowed;
  }

  #send(link, entry) {
    link.unanswered.set(entry.sequence, entry);
    link.usedBytes += entry.size;
    this.statistics.mostUnanswered = Math.max(this.statistics.mostUnanswered, link.unanswered.size);
    return { id: entry.sequence, ...entry.content };
  }

  #read(link, result) {
    const entry = link.unanswered.get(result.id);
    if (!entry) throw new SiglipError('INTERNAL', `a result of item ${result.id}, which is not unanswered`);
    link.unanswered.delete(result.id);
    link.usedBytes -= entry.size;
    link.answered = true;
    this.progressMs = performance.now();
    if (result.error?.retryable && entry.tries <= this.#retries) {
      this.#waiting.push({ ...entry, tries: entry.tries + 1 });
    } else {
      this.#finish(entry, placed(decodeItem(result, entry.sequence)));
    }
  }

  #finish(entry, decoded) {
    this.#unfinishedBytes -= entry.size;
    this.#early.set(entry.sequence, { key: entry.key, ...decoded });
    if (!this.#ordered) this.#release(entry.sequence);
    else while (this.#early.has(this.#next)) this.#release(this.#next++);
  }

  #release(sequence) {
    this.#ready.push(this.#early.get(sequence));
    this.#early.delete(sequence);
  }
}

/** The service counts within its message, the caller within the stream. */
const placed = ({ error, ...found }) => ({
  ...found,
  error: error && { ...error, field: `items[${error.index}]` },
});
