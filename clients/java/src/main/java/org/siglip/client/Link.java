package org.siglip.client;

import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.siglip.v1.EmbedStreamRequest;
import org.siglip.v1.EmbedStreamResponse;

/** One stream to a gateway. gRPC's threads put what comes into a queue of one message and the end. */
final class Link implements ClientResponseObserver<EmbedStreamRequest, EmbedStreamResponse> {
  /** A message, or the end of the stream: with an error, or, without both, a good one. */
  record Incoming(EmbedStreamResponse response, Throwable error) {}

  private final BlockingQueue<Incoming> incoming = new LinkedBlockingQueue<>();
  private ClientCallStreamObserver<EmbedStreamRequest> requests;
  private boolean closed;
  long heardNs = System.nanoTime();

  @Override
  public void beforeStart(ClientCallStreamObserver<EmbedStreamRequest> requests) {
    this.requests = requests;
    // The next message is asked for when this one is taken: what is not taken stays with the service.
    requests.disableAutoRequestWithInitial(1);
  }

  /** Does not block: what the service does not take yet is kept, as much as it has allowed. */
  void send(EmbedStreamRequest request) {
    requests.onNext(request);
  }

  /** Says that nothing more is sent. */
  void close() {
    if (!closed) {
      closed = true;
      requests.onCompleted();
    }
  }

  void cancel() {
    requests.cancel("the stream is not needed any more", Status.CANCELLED.asException());
  }

  /** The next message or the end; null when there is none in time. */
  Incoming next(long waitNs) throws InterruptedException {
    Incoming found = incoming.poll(Math.max(0, waitNs), TimeUnit.NANOSECONDS);
    if (found != null && found.response() != null) {
      requests.request(1);
    }
    return found;
  }

  @Override
  public void onNext(EmbedStreamResponse response) {
    incoming.add(new Incoming(response, null));
  }

  @Override
  public void onError(Throwable error) {
    incoming.add(new Incoming(null, error));
  }

  @Override
  public void onCompleted() {
    incoming.add(new Incoming(null, null));
  }
}
