// Replies as they come over the wire -> what callers want to have.

import { itemFailure, type ItemFailure } from './errors.js';
import type {
  ClassifyResponse,
  Dtype,
  EmbeddingResult,
  EmbedTextsResponse,
  LabelScore,
  ModelInfo,
  ScoreResponse,
  Timing,
} from './protos.js';
import { decodeMatrix, decodeVector } from './vectors.js';

/** The reason of an item whose vector came in an encoding that this client does not know. */
export const UNDECODABLE = 'VECTOR_UNDECODABLE';

/** A vector and its encoding on the wire, or why there is none. */
export type Embedded = { vector: Float32Array; dtype: Dtype; error: null } | Failed;
export type Failed = { vector: null; dtype: null; error: ItemFailure };

export interface Answered {
  model: ModelInfo | undefined;
  timing: Timing | undefined;
}

export type Embeddings = Answered & { items: Embedded[] };
export type ImageScores = { scores: LabelScore[]; error: null } | { scores: null; error: ItemFailure };
export type Classification = Answered & { images: ImageScores[]; logitScale: number; logitBias: number };

/** Rows are images, columns texts; NaN where an error says why. */
export type Scores = Answered & {
  logits: Float32Array[];
  probabilities: Float32Array[];
  errors: ItemFailure[];
};

/** `result`: of an EmbeddingResult or EmbedStreamResult. */
export function decodeItem(result: EmbeddingResult['result'], index: number): Embedded {
  if (result?.$case === 'error') return failed({ ...itemFailure(result.value), index });
  if (!result) return undecodable(index, 'the reply has neither a vector nor an error');
  try {
    return { vector: decodeVector(result.value), dtype: result.value.dtype, error: null };
  } catch (error) {
    return undecodable(index, String(error));
  }
}

export const failed = (error: ItemFailure): Failed => ({ vector: null, dtype: null, error });

const undecodable = (index: number, message: string): Failed =>
  failed({ index, code: 'INTERNAL', reason: UNDECODABLE, message, field: '', retryable: false });

export function embeddings({ results, model, timing }: EmbedTextsResponse): Embeddings {
  return { items: results.map(({ result }, index) => decodeItem(result, index)), model, timing };
}

export function classification({ results, ...reply }: ClassifyResponse): Classification {
  const images = results.map(({ result }, index): ImageScores => {
    if (result?.$case === 'error') return { scores: null, error: { ...itemFailure(result.value), index } };
    return { scores: result?.value.scores ?? [], error: null };
  });
  return { ...reply, images };
}

export function scores({ logitsPerImage, probabilities, errors, model, timing }: ScoreResponse): Scores {
  const nothing = { data: new Uint8Array(), rows: 0, cols: 0 };
  return {
    logits: decodeMatrix(logitsPerImage ?? nothing),
    probabilities: decodeMatrix(probabilities ?? nothing),
    errors: errors.map(itemFailure),
    model,
    timing,
  };
}
