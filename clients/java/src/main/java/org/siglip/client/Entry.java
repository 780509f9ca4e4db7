package org.siglip.client;

import io.grpc.Status;
import org.siglip.v1.EmbedStreamItem;
import org.siglip.v1.ItemError;
import org.siglip.v1.StreamOpened;

/** An item on its way. */
final class Entry {
  /** What protobuf puts around one item and its message. */
  private static final int ENVELOPE_BYTES = 64;

  final long id;
  final Item item;
  int tries;

  Entry(long id, Item item) {
    this.id = id;
    this.item = item;
  }

  long size() {
    return item.size();
  }

  EmbedStreamItem message() {
    return item.content().toBuilder().setId(id).build();
  }

  /** Why it would end the stream if it were sent; null: it may be sent. */
  ItemError refusal(StreamOpened opened) {
    long message = opened.getMaxMessageBytes() - ENVELOPE_BYTES;
    return switch (item.content().getContentCase()) {
      case TEXT -> above(Math.min(opened.getMaxTextBytes(), message), "TEXT_TOO_LONG", "max_text_bytes");
      case IMAGE -> above(Math.min(opened.getMaxImageBytes(), message), "IMAGE_TOO_LARGE", "max_image_bytes");
      default -> above(message, "MESSAGE_TOO_LARGE", "max_message_bytes");
    };
  }

  /** The service counts within its message, the caller within the stream. */
  ItemError told(ItemError error) {
    return error.toBuilder().setIndex((int) id).setField("items[" + id + "]").build();
  }

  private ItemError above(long limit, String reason, String name) {
    if (size() <= limit) {
      return null;
    }
    return told(
        ItemError.newBuilder()
            .setCode(Status.Code.INVALID_ARGUMENT.value())
            .setReason(reason)
            .setMessage(size() + " bytes given, at most " + limit + " allowed (" + name + ")")
            .build());
  }
}
