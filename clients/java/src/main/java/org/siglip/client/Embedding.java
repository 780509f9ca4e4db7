package org.siglip.client;

import io.grpc.Status;
import java.util.List;
import org.siglip.v1.Dtype;
import org.siglip.v1.EmbeddingResult;
import org.siglip.v1.ItemError;
import org.siglip.v1.Vector;

/**
 * The vector of one item, or why there is none; one of the two is null.
 *
 * @param vector float32 [dim]
 * @param dtype how it travelled
 */
public record Embedding(float[] vector, Dtype dtype, ItemError error) {
  /** Reason of the error when a vector has an encoding that this client does not know. */
  public static final String UNDECODABLE = "VECTOR_UNDECODABLE";

  /** Reads the results of EmbedTexts and EmbedImages. */
  public static List<Embedding> of(List<EmbeddingResult> results) {
    return results.stream()
        .map(result -> result.hasError() ? failed(result.getError()) : of(result.getEmbedding()))
        .toList();
  }

  static Embedding of(Vector vector) {
    try {
      return new Embedding(Vectors.decode(vector), vector.getDtype(), null);
    } catch (IllegalArgumentException unknown) {
      return failed(
          ItemError.newBuilder()
              .setCode(Status.Code.UNIMPLEMENTED.value())
              .setReason(UNDECODABLE)
              .setMessage(unknown.getMessage())
              .build());
    }
  }

  static Embedding failed(ItemError error) {
    return new Embedding(null, Dtype.DTYPE_UNSPECIFIED, error);
  }
}
