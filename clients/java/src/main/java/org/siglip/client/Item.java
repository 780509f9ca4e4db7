package org.siglip.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.nio.charset.StandardCharsets;
import org.siglip.v1.EmbedStreamItem;
import org.siglip.v1.TokenIds;

/**
 * What a stream embeds.
 *
 * @param key comes back with the result
 * @param content with its id not set
 * @param size bytes, as the service counts them
 */
public record Item(Object key, EmbedStreamItem content, long size) {
  private static final int TOKEN_BYTES = 4;

  /**
   * A text.
   *
   * @throws IllegalArgumentException for half a surrogate pair, which UTF-8 cannot hold
   */
  public static Item text(Object key, String text) {
    if (!StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
      throw new IllegalArgumentException("the text of item " + key + " has a lone surrogate");
    }
    ByteString bytes = ByteString.copyFromUtf8(text);
    return new Item(key, EmbedStreamItem.newBuilder().setTextBytes(bytes).build(), bytes.size());
  }

  /** The bytes of an image file; they must not change any more. */
  public static Item image(Object key, byte[] file) {
    ByteString bytes = UnsafeByteOperations.unsafeWrap(file);
    return new Item(key, EmbedStreamItem.newBuilder().setImage(bytes).build(), file.length);
  }

  /** A text that is tokenized already. */
  public static Item tokens(Object key, Iterable<Integer> ids) {
    TokenIds tokens = TokenIds.newBuilder().addAllIds(ids).build();
    long size = (long) TOKEN_BYTES * tokens.getIdsCount();
    return new Item(key, EmbedStreamItem.newBuilder().setTokenIds(tokens).build(), size);
  }

  /** A picture that is prepared already; the bytes must not change any more. */
  public static Item pixels(Object key, byte[] pixels) {
    ByteString bytes = UnsafeByteOperations.unsafeWrap(pixels);
    return new Item(key, EmbedStreamItem.newBuilder().setPixels(bytes).build(), pixels.length);
  }
}
