package org.siglip.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.OptionalLong;
import org.siglip.v1.EmbedStreamRequest;

/**
 * Exactly one result for each item, also when gateways and connections come and go meanwhile. For one
 * thread; all work is done inside hasNext, which throws StatusRuntimeException when the stream fails.
 * Closing it early ends everything on the way.
 */
public final class EmbedStream implements Iterator<Result>, AutoCloseable {
  private static final int MISSED_HEARTBEATS = 3;
  private static final long OPENING_HEARTBEAT_MS = 10_000;
  private static final long NS_PER_MS = 1_000_000;
  private static final long NEVER_NS = Duration.ofDays(1).toNanos();

  private final Siglip siglip;
  private final StreamOptions options;
  private final Duration timeout;
  private final Iterator<Item> items;
  private final Flow flow;
  private Link link;
  private long progressNs = System.nanoTime();
  private long finishedBefore;
  private int failures;
  private Throwable lastFailure;

  EmbedStream(
      Siglip siglip, StreamOptions options, int retries, Duration timeout, Iterator<Item> items) {
    this.siglip = siglip;
    this.options = options;
    this.timeout = timeout;
    this.items = items;
    this.flow = new Flow(options.ordered(), retries);
  }

  @Override
  public boolean hasNext() {
    resume();
    try {
      while (flow.ready.isEmpty() && !(flow.done() && link == null)) {
        step();
      }
    } catch (RuntimeException failed) {
      close();
      throw failed;
    }
    return !flow.ready.isEmpty();
  }

  @Override
  public Result next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    return flow.ready.remove();
  }

  @Override
  public void close() {
    if (link != null) {
      link.cancel();
      link = null;
    }
  }

  /** How many streams were opened. */
  public int streams() {
    return flow.streams;
  }

  /** The most items that were sent and not answered. */
  public int mostUnanswered() {
    return flow.mostUnanswered;
  }

  /** What the service allowed, of several streams the smallest; 0 before any was opened. */
  public int allowedUnanswered() {
    return flow.streams == 0 ? 0 : flow.allowedUnanswered;
  }

  /** Does the next thing that can be done. */
  private void step() {
    if (link == null) {
      open();
    }
    fill();
    boolean sent = flow.hasCredit();
    if (sent) {
      link.send(flow.message());
    } else if (flow.draining || flow.done()) {
      link.close();
    }
    if (flow.ready.isEmpty()) {
      listen(sent ? 0 : Math.min(silentInNs(), stuckInNs()));
    }
  }

  private void open() {
    Link next = new Link();
    siglip.streaming().embedStream(next);
    link = next;
    finishedBefore = flow.finished();
    link.send(EmbedStreamRequest.newBuilder().setOptions(options.message()).build());
  }

  /** Takes items as there is room for them. */
  private void fill() {
    boolean took = false;
    while (flow.waitingCount() < Flow.CHUNK_ITEMS && flow.hasRoom()) {
      took = true;
      if (items.hasNext()) {
        flow.add(items.next());
      } else {
        flow.exhausted = true;
      }
    }
    if (took) {
      resume();
    }
  }

  /** Time in the caller's hands does not count against the service. */
  private void resume() {
    progressNs = System.nanoTime();
    if (link != null) {
      link.heardNs = progressNs;
    }
  }

  private void listen(long waitNs) {
    Link.Incoming incoming;
    try {
      incoming = link.next(waitNs);
    } catch (InterruptedException interrupted) {
      throw Retries.cancelled();
    }
    if (incoming == null) {
      checkOverdue();
    } else if (incoming.response() == null) {
      ended(incoming.error());
    } else {
      link.heardNs = System.nanoTime();
      boolean first = !flow.everOpened();
      flow.hear(incoming.response());
      if (first || incoming.response().getResultsCount() > 0) {
        progressNs = link.heardNs;
        lastFailure = null;
      }
    }
  }

  private void checkOverdue() {
    if (stuckInNs() <= 0) {
      throw stuck();
    }
    if (silentInNs() <= 0) {
      link.cancel();
      ended(Status.UNAVAILABLE.withDescription("heartbeats are missing").asRuntimeException());
    }
  }

  private void ended(Throwable error) {
    link = null;
    boolean drained = flow.draining;
    flow.lose();
    boolean useful = flow.finished() > finishedBefore;
    if (useful) {
      failures = 0;
    }
    if (!flow.done() && !(useful && drained)) {
      pause(error);
      failures++;
    }
  }

  /** Waits before the next stream, or throws what waiting does not cure. */
  private void pause(Throwable error) {
    long waitMs = Retries.backoffMs(failures);
    if (error != null) {
      lastFailure = error;
      waitMs = reopenWaitMs(error, waitMs);
    }
    Retries.sleep(Math.max(0, Math.min(waitMs, stuckInNs() / NS_PER_MS)));
    if (stuckInNs() < NS_PER_MS) {
      throw stuck();
    }
  }

  private static long reopenWaitMs(Throwable error, long backoffMs) {
    switch (Status.fromThrowable(error).getCode()) {
      case UNAVAILABLE, CANCELLED, DEADLINE_EXCEEDED:
        return backoffMs;
      case RESOURCE_EXHAUSTED:
        OptionalLong told = Retries.pushbackMs(error);
        if (told.isPresent()) {
          return Math.max(backoffMs, told.getAsLong());
        }
        break;
      case INTERNAL, UNKNOWN: // of gRPC itself, when a connection breaks; the service gives a reason
        if (Failure.of(error).reason().isEmpty()) {
          return backoffMs;
        }
        break;
      default:
    }
    throw Status.fromThrowable(error).asRuntimeException(Status.trailersFromThrowable(error));
  }

  private RuntimeException stuck() {
    String why = lastFailure == null ? "" : " (" + lastFailure.getMessage() + ")";
    return Status.DEADLINE_EXCEEDED
        .withDescription("no item was answered for " + timeout.toMillis() + " ms" + why)
        .asRuntimeException();
  }

  /** Until the timeout has passed without a result that is waited for. */
  private long stuckInNs() {
    boolean idle = flow.everOpened() && flow.unfinished() == 0;
    return idle ? NEVER_NS : progressNs + timeout.toNanos() - System.nanoTime();
  }

  /** Until so many heartbeats are missing that the stream is lost. */
  private long silentInNs() {
    long longestMs = MISSED_HEARTBEATS * flow.heartbeatMs(OPENING_HEARTBEAT_MS);
    return link.heardNs + longestMs * NS_PER_MS - System.nanoTime();
  }
}
