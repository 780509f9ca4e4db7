// Who has which item of a stream: free of any transport.
//
// Items come in as the window has room, go out over the link that has credit, and come back as results. A
// link that is lost gives back what it has not answered, so that each item has exactly one result.

import { SiglipError } from './errors.js';
import type { Entry, Refusal } from './items.js';
import type { EmbedStreamItem, EmbedStreamResponse, EmbedStreamResult, StreamOpened } from './protos.js';
import { decodeItem, failed, type Embedded } from './results.js';

// Of one message. More only delays the first of them.
const CHUNK_ITEMS = 64;
const CHUNK_BYTES = 1024 * 1024;
const ITEM_OVERHEAD_BYTES = 16;
// Heartbeats that may fail to come.
const MISSED = 3;
const FIRST_INTERVAL_MS = 10_000;

/** What a stream gives for an item. */
export type StreamResult<Key> = { key: Key } & Embedded;

/** `mostUnanswered`: items at any time; `allowedUnanswered`: the least that any of the streams allowed. */
export interface Statistics {
  streams: number;
  mostUnanswered: number;
  allowedUnanswered: number;
}

/** One stream to a gateway: what it lets us send, and what it has not answered. */
export class Link<Key> {
  opened: StreamOpened | undefined;
  readonly unanswered = new Map<number, Entry<Key>>();
  usedBytes = 0;
  draining = false;
  ended = false;
  answered = false;
  heardMs = performance.now();

  /** When its next heartbeat is overdue, by performance.now(). */
  get silentMs(): number {
    return this.heardMs + MISSED * (this.opened?.heartbeatIntervalMs || FIRST_INTERVAL_MS);
  }

  /** For an item of so many bytes; one that is alone may have any size. */
  hasRoom(size: number): boolean {
    if (!this.opened || this.draining || this.ended) return false;
    if (this.unanswered.size === 0) return true;
    const { maxUnansweredItems, maxUnansweredBytes } = this.opened;
    return this.unanswered.size < maxUnansweredItems && this.usedBytes + size <= maxUnansweredBytes;
  }
}

export class Flow<Key> {
  opened: StreamOpened | undefined; // the newest
  accepted = 0; // items so far: the next one's sequence
  exhausted = false; // no more items come
  progressMs = performance.now();
  readonly statistics: Statistics = { streams: 0, mostUnanswered: 0, allowedUnanswered: Infinity };
  #fingerprint: string | undefined;
  #waiting: Entry<Key>[] = []; // to be sent
  #ready: StreamResult<Key>[] = []; // to be taken
  readonly #early = new Map<number, StreamResult<Key>>(); // wait for those before them
  #next = 0;
  #taken = 0;
  #unfinishedBytes = 0;
  readonly #ordered: boolean;
  readonly #retries: number;

  constructor({ ordered, retries }: { ordered: boolean; retries: number }) {
    this.#ordered = ordered;
    this.#retries = retries;
  }

  /** Whether one item more may be taken from the caller. */
  get hasRoom(): boolean {
    if (!this.opened) return false;
    const held = this.accepted - this.#taken;
    const { maxUnansweredItems, maxUnansweredBytes } = this.opened;
    return held === 0 || (held < maxUnansweredItems && this.#unfinishedBytes < maxUnansweredBytes);
  }

  /** Items that have no result yet. */
  get unfinished(): number {
    return this.accepted - this.#taken - this.#ready.length - this.#early.size;
  }

  /** Nothing needs to be sent any more. */
  get allAnswered(): boolean {
    return this.exhausted && this.unfinished === 0;
  }

  /** The next item. */
  add(item: Entry<Key> | Refusal<Key>): void {
    if (this.unfinished === 0) this.progressMs = performance.now();
    this.accepted += 1;
    if ('error' in item) {
      this.#finish(item.sequence, { key: item.key, ...failed(item.error) });
    } else {
      this.#unfinishedBytes += item.size;
      this.#waiting.push(item);
    }
  }

  /** As much as waits, fits into one message and the link has credit for. */
  nextItems(link: Link<Key>): EmbedStreamItem[] {
    const mostBytes = Math.min(CHUNK_BYTES, Number(link.opened?.maxMessageBytes ?? 0));
    const items: EmbedStreamItem[] = [];
    let bytes = 0;
    for (let entry; (entry = this.#waiting[0]) && items.length < CHUNK_ITEMS && link.hasRoom(entry.size);) {
      bytes += entry.size + ITEM_OVERHEAD_BYTES;
      if (items.length > 0 && bytes > mostBytes) break;
      this.#waiting.shift();
      items.push(this.#send(link, entry));
    }
    return items;
  }

  /** A message of the link. Throws a SiglipError for one that must not be. */
  hear(link: Link<Key>, { opened, results, draining }: EmbedStreamResponse): void {
    link.heardMs = performance.now();
    if (opened) this.#open(link, opened);
    link.draining ||= draining;
    for (const result of results) this.#read(link, result);
  }

  /** The link has ended; what it has not answered waits again, before all others. */
  lose(link: Link<Key>): void {
    const lost = [...link.unanswered.values()].sort((one, other) => one.sequence - other.sequence);
    this.#waiting = [...lost, ...this.#waiting];
    link.unanswered.clear();
    link.ended = true;
  }

  /** The results that are ready. */
  take(): StreamResult<Key>[] {
    const taken = this.#ready;
    this.#ready = [];
    this.#taken += taken.length;
    return taken;
  }

  #open(link: Link<Key>, opened: StreamOpened): void {
    const fingerprint = opened.model?.fingerprint ?? '';
    this.#fingerprint ??= fingerprint;
    if (fingerprint !== this.#fingerprint) {
      const change = `from ${this.#fingerprint} to ${fingerprint}`;
      throw new SiglipError('INTERNAL', `the served model changed ${change}`, { reason: 'MODEL_CHANGED' });
    }
    if (!this.opened) this.progressMs = performance.now();
    link.opened = this.opened = opened;
    const allowed = Math.min(this.statistics.allowedUnanswered, opened.maxUnansweredItems);
    Object.assign(this.statistics, { streams: this.statistics.streams + 1, allowedUnanswered: allowed });
  }

  #send(link: Link<Key>, entry: Entry<Key>): EmbedStreamItem {
    link.unanswered.set(entry.sequence, entry);
    link.usedBytes += entry.size;
    this.statistics.mostUnanswered = Math.max(this.statistics.mostUnanswered, link.unanswered.size);
    return { id: BigInt(entry.sequence), content: entry.content };
  }

  #read(link: Link<Key>, { id, result }: EmbedStreamResult): void {
    const entry = link.unanswered.get(Number(id));
    if (!entry) throw new SiglipError('INTERNAL', `a result of item ${id}, which is not unanswered`);
    link.unanswered.delete(entry.sequence);
    link.usedBytes -= entry.size;
    link.answered = true;
    this.progressMs = performance.now();
    if (result?.$case === 'error' && result.value.retryable && entry.tries <= this.#retries) {
      this.#waiting.push({ ...entry, tries: entry.tries + 1 });
      return;
    }
    this.#unfinishedBytes -= entry.size;
    this.#finish(entry.sequence, { key: entry.key, ...placed(decodeItem(result, entry.sequence)) });
  }

  #finish(sequence: number, result: StreamResult<Key>): void {
    if (!this.#ordered) {
      this.#ready.push(result);
      return;
    }
    this.#early.set(sequence, result);
    for (let found; (found = this.#early.get(this.#next)); this.#next++) {
      this.#early.delete(this.#next);
      this.#ready.push(found);
    }
  }
}

/** The service counts within its message, the caller within the stream. */
function placed(found: Embedded): Embedded {
  return found.error ? { ...found, error: { ...found.error, field: `items[${found.error.index}]` } } : found;
}
