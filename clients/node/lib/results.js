// Replies as they come over the wire -> what callers want to have.

import { itemError } from './errors.js';
import { decodeMatrix, decodeVector } from './vectors.js';

/** The reason of an item whose vector came in an encoding that this client does not know. */
export const UNDECODABLE = 'VECTOR_UNDECODABLE';

/**
 * One EmbeddingResult or EmbedStreamResult -> {vector, dtype, error}: a Float32Array and the name of its
 * encoding on the wire, or null and why there is none.
 */
export function decodeItem({ embedding, error }, index) {
  if (!embedding) return { vector: null, dtype: null, error: failure(error, index) };
  try {
    return { vector: decodeVector(embedding), dtype: embedding.dtype, error: null };
  } catch ({ message }) {
    const undecodable = {
      index,
      code: 'INTERNAL',
      reason: UNDECODABLE,
      message,
      field: '',
      retryable: false,
    };
    return { vector: null, dtype: null, error: undecodable };
  }
}

/** The reply of EmbedTexts or EmbedImages. */
export const embeddings = ({ results, model, timing }) => ({ items: results.map(decodeItem), model, timing });

/** The reply of Classify: for each image {scores, error}, one of them null. */
export const classification = ({ results, ...rest }) => ({
  ...rest,
  images: results.map(({ scores, error }, index) =>
    scores ? { scores: scores.scores, error: null } : { scores: null, error: failure(error, index) },
  ),
});

/** The reply of Score: rows are images, columns texts; NaN where an error says why. */
export const scores = ({ logitsPerImage, probabilities, errors, ...rest }) => ({
  ...rest,
  logits: decodeMatrix(logitsPerImage),
  probabilities: decodeMatrix(probabilities),
  errors: errors.map(itemError),
});

const failure = (error, index) => ({ ...itemError(error), index });
