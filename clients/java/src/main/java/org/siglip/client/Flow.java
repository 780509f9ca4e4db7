package org.siglip.client;

import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import org.siglip.v1.EmbedStreamRequest;
import org.siglip.v1.EmbedStreamResponse;
import org.siglip.v1.EmbedStreamResult;
import org.siglip.v1.ItemError;
import org.siglip.v1.StreamOpened;

/**
 * Who has which item: it waits, is sent and not answered, or is finished. Free of gRPC's calls and of
 * threads.
 */
final class Flow {
  /** Of one message. More only delays the first of its items. */
  static final int CHUNK_ITEMS = 64;

  private static final long CHUNK_BYTES = 1 << 20;
  // Of a service that names none, or one that no machine keeps.
  private static final long LEAST_HEARTBEAT_MS = 100;
  private static final int ITEM_OVERHEAD_BYTES = 24;

  private final boolean ordered;
  private final int retries;
  private final Map<Long, Entry> unanswered = new HashMap<>();
  private final Map<Long, Result> early = new HashMap<>();
  private final ArrayDeque<Entry> waiting = new ArrayDeque<>();
  final ArrayDeque<Result> ready = new ArrayDeque<>();

  /** Of the current stream; null before its first message. */
  private StreamOpened opened;

  /** The last that is known. */
  private StreamOpened limits;

  private long sentBytes;
  private long heldBytes;
  private long accepted;
  private long finished;
  private long next;
  boolean draining;
  boolean exhausted;
  int streams;
  int mostUnanswered;
  int allowedUnanswered = Integer.MAX_VALUE;

  Flow(boolean ordered, int retries) {
    this.ordered = ordered;
    this.retries = retries;
  }

  /** Whether one more item may be taken from the source. */
  boolean hasRoom() {
    if (exhausted || limits == null) {
      return false;
    }
    long held = unfinished() + early.size() + ready.size();
    return held == 0
        || held < limits.getMaxUnansweredItems() && heldBytes < limits.getMaxUnansweredBytes();
  }

  boolean everOpened() {
    return limits != null;
  }

  /** Until the first message comes there is none. */
  long heartbeatMs(long otherwise) {
    return opened == null ? otherwise : Math.max(LEAST_HEARTBEAT_MS, opened.getHeartbeatIntervalMs());
  }

  int waitingCount() {
    return waiting.size();
  }

  long finished() {
    return finished;
  }

  /** Items without a result. */
  long unfinished() {
    return accepted - finished;
  }

  boolean done() {
    return exhausted && unfinished() == 0;
  }

  void add(Item item) {
    Entry entry = new Entry(accepted++, item);
    heldBytes += entry.size();
    ItemError refusal = entry.refusal(limits);
    if (refusal == null) {
      waiting.add(entry);
    } else {
      finish(entry, Embedding.failed(refusal));
    }
  }

  /** Whether the first item that waits may be sent; one that is alone may have any size. */
  boolean hasCredit() {
    if (waiting.isEmpty() || opened == null || draining) {
      return false;
    }
    boolean fits = sentBytes + waiting.peek().size() <= opened.getMaxUnansweredBytes();
    return unanswered.isEmpty() || fits && unanswered.size() < opened.getMaxUnansweredItems();
  }

  /** As much as waits, has credit, and fits into one chunk. */
  EmbedStreamRequest message() {
    EmbedStreamRequest.Builder request = EmbedStreamRequest.newBuilder();
    long most = Math.min(CHUNK_BYTES, opened.getMaxMessageBytes());
    long used = 0;
    while (hasCredit() && request.getItemsCount() < CHUNK_ITEMS) {
      used += waiting.peek().size() + ITEM_OVERHEAD_BYTES;
      if (request.getItemsCount() > 0 && used > most) {
        break;
      }
      Entry entry = waiting.remove();
      unanswered.put(entry.id, entry);
      sentBytes += entry.size();
      request.addItems(entry.message());
    }
    mostUnanswered = Math.max(mostUnanswered, unanswered.size());
    return request.build();
  }

  void hear(EmbedStreamResponse response) {
    if (response.hasOpened()) {
      open(response.getOpened());
    }
    draining |= response.getDraining();
    response.getResultsList().forEach(this::read);
  }

  /** The stream has ended: what it has not answered is sent again first, in its order. */
  void lose() {
    unanswered.values().stream()
        .sorted(Comparator.comparingLong((Entry entry) -> entry.id).reversed())
        .forEach(waiting::addFirst);
    unanswered.clear();
    sentBytes = 0;
    opened = null;
    draining = false;
  }

  private void open(StreamOpened now) {
    if (limits != null) {
      String was = limits.getModel().getFingerprint();
      if (!was.equals(now.getModel().getFingerprint())) {
        throw internal("the served model changed from " + was + " to " + now.getModel().getFingerprint());
      }
    }
    opened = limits = now;
    streams++;
    allowedUnanswered = Math.min(allowedUnanswered, now.getMaxUnansweredItems());
  }

  private void read(EmbedStreamResult result) {
    Entry entry = unanswered.remove(result.getId());
    if (entry == null) {
      throw internal("the stream has a result of item " + result.getId() + ", which is not unanswered");
    }
    sentBytes -= entry.size();
    if (!result.hasError()) {
      finish(entry, Embedding.of(result.getEmbedding()));
    } else if (result.getError().getRetryable() && entry.tries < retries) {
      entry.tries++;
      waiting.add(entry);
    } else {
      finish(entry, Embedding.failed(entry.told(result.getError())));
    }
  }

  private void finish(Entry entry, Embedding embedding) {
    finished++;
    heldBytes -= entry.size();
    Result result = new Result(entry.id, entry.item.key(), embedding);
    if (!ordered) {
      ready.add(result);
      return;
    }
    early.put(entry.id, result);
    for (Result first = early.remove(next); first != null; first = early.remove(next)) {
      ready.add(first);
      next++;
    }
  }

  private static RuntimeException internal(String message) {
    return Status.INTERNAL.withDescription(message).asRuntimeException();
  }
}
