package org.siglip.client;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.OptionalLong;
import java.util.concurrent.ThreadLocalRandom;

/**
 * What gRPC does not retry. It retries UNAVAILABLE by itself; it would retry RESOURCE_EXHAUSTED with or
 * without the service's consent, so that code is retried here, and only when the service says when.
 */
final class Retries {
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
  private static final long LONGEST_MS = 3000;
  private static final long STOPPED_MS = 100;

  private Retries() {}

  /** Milliseconds after which a failed call may be sent again; empty: not at all. */
  static OptionalLong waitMs(StatusRuntimeException failed) {
    return switch (failed.getStatus().getCode()) {
      // By the service: the call arrived as it stopped.
      case CANCELLED -> OptionalLong.of(STOPPED_MS);
      case RESOURCE_EXHAUSTED -> pushbackMs(failed);
      default -> OptionalLong.empty();
    };
  }

  /** When the service wants to see the call again, or a little later; empty: it does not, or does not say. */
  static OptionalLong pushbackMs(Throwable failed) {
    Metadata trailers = Status.trailersFromThrowable(failed);
    String told = trailers == null ? null : trailers.get(PUSHBACK);
    try {
      long wait = told == null ? -1 : Long.parseLong(told);
      return wait < 0 ? OptionalLong.empty() : OptionalLong.of(jittered(wait, 1.0, 1.25));
    } catch (NumberFormatException unreadable) {
      return OptionalLong.empty();
    }
  }

  /** Milliseconds to wait after so many failures in a row. */
  static long backoffMs(int failures) {
    long doubled = 100L << Math.min(failures, 10);
    return jittered(Math.min(doubled, LONGEST_MS), 0.75, 1.25);
  }

  static void sleep(long ms) {
    try {
      Thread.sleep(ms);
    } catch (InterruptedException interrupted) {
      throw cancelled();
    }
  }

  static StatusRuntimeException cancelled() {
    Thread.currentThread().interrupt();
    return Status.CANCELLED.withDescription("the thread was interrupted").asRuntimeException();
  }

  /** Those refused together should not come back together. */
  private static long jittered(long ms, double least, double most) {
    return Math.round(ms * ThreadLocalRandom.current().nextDouble(least, most));
  }
}
