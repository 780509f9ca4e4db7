package org.siglip.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/**
 * All that a failed call says.
 *
 * @param info reason, domain and metadata; empty where gRPC itself failed
 * @param violations which field breaks which rule
 * @param retryDelay the service's advice
 */
public record Failure(
    Status.Code code,
    String message,
    Optional<ErrorInfo> info,
    List<BadRequest.FieldViolation> violations,
    Optional<Duration> retryDelay) {

  /** Reads the status of an exception of gRPC and its rich details. */
  public static Failure of(Throwable thrown) {
    Status status = Status.fromThrowable(thrown);
    List<Any> details = details(thrown);
    return new Failure(
        status.getCode(),
        message(status),
        find(details, ErrorInfo.class),
        find(details, BadRequest.class).map(BadRequest::getFieldViolationsList).orElse(List.of()),
        find(details, RetryInfo.class).map(Failure::delay));
  }

  public String reason() {
    return info.map(ErrorInfo::getReason).orElse("");
  }

  /** With the cause, which gRPC's own "io exception" leaves out. */
  private static String message(Status status) {
    Throwable cause = status.getCause();
    String described = Optional.ofNullable(status.getDescription()).orElse("");
    return cause == null || cause.getMessage() == null ? described : described + ": " + cause.getMessage();
  }

  private static List<Any> details(Throwable thrown) {
    try {
      com.google.rpc.Status status = StatusProto.fromThrowable(thrown);
      return status == null ? List.of() : status.getDetailsList();
    } catch (RuntimeException unreadable) { // not from our service: a proxy's, perhaps
      return List.of();
    }
  }

  private static <T extends com.google.protobuf.Message> Optional<T> find(
      List<Any> details, Class<T> type) {
    for (Any detail : details) {
      if (detail.is(type)) {
        try {
          return Optional.of(detail.unpack(type));
        } catch (InvalidProtocolBufferException unreadable) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }

  private static Duration delay(RetryInfo retry) {
    return Duration.ofSeconds(retry.getRetryDelay().getSeconds(), retry.getRetryDelay().getNanos());
  }
}
