package org.siglip.client;

import org.siglip.v1.Dtype;
import org.siglip.v1.EmbedStreamOptions;
import org.siglip.v1.EmbeddingOptions;

/**
 * What holds for a whole stream.
 *
 * @param model name asked for; empty: the one that is served
 * @param embedding how vectors are returned
 * @param ordered results come in the order of the items, instead of as they finish
 */
public record StreamOptions(String model, EmbeddingOptions embedding, boolean ordered) {
  public StreamOptions() {
    this("", EmbeddingOptions.getDefaultInstance(), false);
  }

  public StreamOptions withDtype(Dtype dtype) {
    return new StreamOptions(model, embedding.toBuilder().setDtype(dtype).build(), ordered);
  }

  public StreamOptions inOrder() {
    return new StreamOptions(model, embedding, true);
  }

  /** Order is kept on this side: the service knows nothing of items that are sent again. */
  EmbedStreamOptions message() {
    return EmbedStreamOptions.newBuilder().setModel(model).setEmbedding(embedding).build();
  }
}
