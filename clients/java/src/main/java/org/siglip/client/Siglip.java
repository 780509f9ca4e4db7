package org.siglip.client;

import io.grpc.ConnectivityState;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractStub;
import java.io.IOException;
import java.time.Duration;
import java.util.Iterator;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.siglip.v1.EmbeddingServiceGrpc;
import org.siglip.v1.EmbeddingServiceGrpc.EmbeddingServiceBlockingStub;
import org.siglip.v1.ModelServiceGrpc;
import org.siglip.v1.ModelServiceGrpc.ModelServiceBlockingStub;
import org.siglip.v1.ZeroShotServiceGrpc;
import org.siglip.v1.ZeroShotServiceGrpc.ZeroShotServiceBlockingStub;

/**
 * A connection to a service. Each call gets a deadline, and is sent again while that is right and in
 * time. May be shared between threads.
 *
 * <pre>{@code
 * try (Siglip siglip = Siglip.connect(new Settings("127.0.0.1:50051"))) {
 *   EmbedTextsResponse reply = siglip.embedding(stub -> stub.embedTexts(request));
 * }
 * }</pre>
 *
 * Calls throw StatusRuntimeException; see {@link Failure}.
 */
public final class Siglip implements AutoCloseable {
  private final ManagedChannel channel;
  private final Settings settings;
  private final Duration timeout;

  private Siglip(ManagedChannel channel, Settings settings, Duration timeout) {
    this.channel = channel;
    this.settings = settings;
    this.timeout = timeout;
  }

  /**
   * The connection itself is made with the first call.
   *
   * @throws IOException for a file that cannot be read, or holds no certificate
   */
  public static Siglip connect(Settings settings) throws IOException {
    return new Siglip(Channels.open(settings), settings, settings.timeout());
  }

  /** The same connection, for calls with another time to answer, retries included. */
  public Siglip within(Duration timeout) {
    return new Siglip(channel, settings, timeout);
  }

  public <R> R embedding(Function<EmbeddingServiceBlockingStub, R> call) {
    return call(EmbeddingServiceGrpc.newBlockingStub(channel), call);
  }

  public <R> R zeroShot(Function<ZeroShotServiceBlockingStub, R> call) {
    return call(ZeroShotServiceGrpc.newBlockingStub(channel), call);
  }

  public <R> R model(Function<ModelServiceBlockingStub, R> call) {
    return call(ModelServiceGrpc.newBlockingStub(channel), call);
  }

  /**
   * Embeds any number of items; results as they finish. The items are asked for only as fast as results
   * are taken, by the thread that takes them.
   */
  public EmbedStream embedStream(StreamOptions options, Iterator<Item> items) {
    return new EmbedStream(this, options, settings.retries(), timeout, items);
  }

  /** Ends the connection, and all calls with it. */
  @Override
  public void close() {
    channel.shutdownNow();
    try {
      channel.awaitTermination(5, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** For a stream, which has no deadline. */
  EmbeddingServiceGrpc.EmbeddingServiceStub streaming() {
    if (channel.isShutdown()) {
      throw Status.UNAVAILABLE.withDescription("the client is closed").asRuntimeException();
    }
    hurry();
    return EmbeddingServiceGrpc.newStub(channel);
  }

  private <S extends AbstractStub<S>, R> R call(S stub, Function<S, R> call) {
    Deadline deadline = Deadline.after(timeout.toMillis(), TimeUnit.MILLISECONDS);
    for (int sent = 0; ; sent++) {
      hurry();
      try {
        return call.apply(stub.withDeadline(deadline));
      } catch (StatusRuntimeException failed) {
        OptionalLong wait = sent < settings.retries() ? Retries.waitMs(failed) : OptionalLong.empty();
        if (wait.isEmpty() || wait.getAsLong() >= deadline.timeRemaining(TimeUnit.MILLISECONDS)) {
          throw failed;
        }
        Retries.sleep(wait.getAsLong());
      }
    }
  }

  /** A gateway that comes back is found at once: gRPC backs off to two minutes, and cannot be told less. */
  private void hurry() {
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      channel.resetConnectBackoff();
    }
  }
}
