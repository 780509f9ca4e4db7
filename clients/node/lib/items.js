// An item's way onto the wire.

// Half of a surrogate pair. (String.isWellFormed is not in Node 18.)
const LONE = /\p{Surrogate}/u;

/** Whether UTF-8 can hold the text. */
export const isWellFormed = (text) => !LONE.test(text);

// What protobuf puts around one item and its message.
const ENVELOPE_BYTES = 64;

/**
 * The entry that travels for `item`, {key, text} or {key, image}; or, as an entry with an `error`, its
 * refusal: what the service would not take ends the whole stream, or its message. Throws a TypeError for
 * what is no item.
 */
export function prepare(sequence, item, opened) {
  const { key, text, image } = item ?? {};
  if (typeof text === 'string') return prepareText(sequence, key, text, opened);
  if (image instanceof Uint8Array) return prepareImage(sequence, key, image, opened);
  throw new TypeError(`items[${sequence}] must have a text (string) or an image (Uint8Array)`);
}

function prepareText(sequence, key, text, opened) {
  if (!isWellFormed(text)) {
    return refusal(
      sequence,
      key,
      'TEXT_NOT_UNICODE',
      'the text has a lone surrogate, which UTF-8 cannot hold',
    );
  }
  const entry = { sequence, key, content: { text }, size: Buffer.byteLength(text), tries: 1 };
  return within(entry, 'TEXT_TOO_LONG', 'maxTextBytes', opened);
}

function prepareImage(sequence, key, image, opened) {
  const entry = { sequence, key, content: { image }, size: image.length, tries: 1 };
  return within(entry, 'IMAGE_TOO_LARGE', 'maxImageBytes', opened);
}

function within(entry, reason, name, opened) {
  const limit = Math.min(opened[name], opened.maxMessageBytes - ENVELOPE_BYTES);
  if (entry.size <= limit) return entry;
  const message = `${entry.size} bytes given, at most ${limit} allowed (${name})`;
  return refusal(entry.sequence, entry.key, reason, message);
}

function refusal(sequence, key, reason, message) {
  const field = `items[${sequence}]`;
  const error = { index: sequence, code: 'INVALID_ARGUMENT', reason, message, field, retryable: false };
  return { sequence, key, size: 0, error };
}
