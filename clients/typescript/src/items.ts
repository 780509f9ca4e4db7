// An item's way onto the wire.

import type { ItemFailure } from './errors.js';
import type { EmbedStreamItem, StreamOpened } from './protos.js';

// Half of a surrogate pair. (String.isWellFormed is not in Node 18.)
const LONE = /\p{Surrogate}/u;

/** Whether UTF-8 can hold the text. */
export const isWellFormed = (text: string): boolean => !LONE.test(text);

// What protobuf puts around one item and its message.
const ENVELOPE_BYTES = 64;

/** A text or an encoded image; `key` comes back with its result. */
export type StreamItem<Key> = { key: Key; text: string } | { key: Key; image: Uint8Array };

/** An item on its way: `size` is its bytes of credit. */
export interface Entry<Key> {
  sequence: number;
  key: Key;
  content: NonNullable<EmbedStreamItem['content']>;
  size: number;
  tries: number;
}

/** An item that is not even sent: it would end the whole stream. */
export interface Refusal<Key> {
  sequence: number;
  key: Key;
  error: ItemFailure;
}

/** Throws a TypeError for what is no item. */
export function prepare<Key>(
  sequence: number,
  item: StreamItem<Key>,
  opened: StreamOpened,
): Entry<Key> | Refusal<Key> {
  const { key } = item;
  if ('text' in item && typeof item.text === 'string') return prepareText(sequence, key, item.text, opened);
  if ('image' in item && item.image instanceof Uint8Array)
    return prepareImage(sequence, key, item.image, opened);
  throw new TypeError(`items[${sequence}] must have a text (string) or an image (Uint8Array)`);
}

function prepareText<Key>(
  sequence: number,
  key: Key,
  text: string,
  opened: StreamOpened,
): Entry<Key> | Refusal<Key> {
  if (!isWellFormed(text)) {
    return refusal(
      sequence,
      key,
      'TEXT_NOT_UNICODE',
      'the text has a lone surrogate, which UTF-8 cannot hold',
    );
  }
  const content = { $case: 'text', value: text } as const;
  const entry = { sequence, key, content, size: Buffer.byteLength(text), tries: 1 };
  return within(entry, 'TEXT_TOO_LONG', 'maxTextBytes', opened);
}

function prepareImage<Key>(
  sequence: number,
  key: Key,
  image: Uint8Array,
  opened: StreamOpened,
): Entry<Key> | Refusal<Key> {
  const content = { $case: 'image', value: image } as const;
  const entry = { sequence, key, content, size: image.length, tries: 1 };
  return within(entry, 'IMAGE_TOO_LARGE', 'maxImageBytes', opened);
}

function within<Key>(
  entry: Entry<Key>,
  reason: string,
  name: 'maxTextBytes' | 'maxImageBytes',
  opened: StreamOpened,
): Entry<Key> | Refusal<Key> {
  const limit = Math.min(Number(opened[name]), Number(opened.maxMessageBytes) - ENVELOPE_BYTES);
  if (entry.size <= limit) return entry;
  const message = `${entry.size} bytes given, at most ${limit} allowed (${name})`;
  return refusal(entry.sequence, entry.key, reason, message);
}

function refusal<Key>(sequence: number, key: Key, reason: string, message: string): Refusal<Key> {
  const field = `items[${sequence}]`;
  return {
    sequence,
    key,
    error: { index: sequence, code: 'INVALID_ARGUMENT', reason, message, field, retryable: false },
  };
}
