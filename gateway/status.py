"""The one place where errors become gRPC codes, with google.rpc details in the trailers.

ErrorInfo and RequestInfo are always there; BadRequest names fields; RetryInfo says when to try again.
Stock gRPC clients ignore RetryInfo and honour the trailer `grpc-retry-pushback-ms`, so both are sent.
"""

from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from broker import BrokerError, DeadlineExceeded, FingerprintMismatch, NoWorkers, QueueFull, WouldBeLate
from gateway.errors import GatewayError, InvalidRequest, LabelFailed, Overloaded, Stopping

DOMAIN = "siglip.v1"
REQUEST_ID_KEY = "x-request-id"
# Clients accept 8 KB of trailers safely; base64 makes the details a third larger.
_MAX_DETAILS_BYTES = 4096
_MAX_MESSAGE_CHARACTERS = 300
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a client sees it."""

    code: grpc.StatusCode
    reason: str
    message: str
    retry_after_s: float | None = None


_INTERNAL = Failure(
    grpc.StatusCode.INTERNAL, "INTERNAL", "internal error; the server's log has it under this request id"
)


def failure_of(error: Exception) -> Failure:
    """What the client is told. Anything unforeseen is INTERNAL, without its text."""
    match error:
        case Overloaded() | Stopping():
            return Failure(error.code, error.reason, str(error), error.retry_after_s)
        case LabelFailed():
            retry_after_s = _RETRY_AFTER_S if error.failure.retryable else None
            return Failure(error.failure.code, error.reason, _cut(str(error)), retry_after_s)
        case GatewayError():
            return Failure(error.code, error.reason, _cut(str(error)))
        case BrokerError():
            return _failure_of_broker(error)
        case _:
            return _INTERNAL


def _failure_of_broker(error: BrokerError) -> Failure:
    """Messages of our own: what the broker says names hosts and keys, which are for the log."""
    codes = grpc.StatusCode
    match error:
        case WouldBeLate():
            return Failure(codes.RESOURCE_EXHAUSTED, "WOULD_BE_LATE", str(error), error.retry_after_s)
        case QueueFull():
            message = "the queue is full; try again later"
            return Failure(codes.RESOURCE_EXHAUSTED, "QUEUE_FULL", message, error.retry_after_s)
        case NoWorkers():
            message = f"no worker of the {error.tower} tower is live"
            return Failure(codes.UNAVAILABLE, "NO_WORKERS", message, _RETRY_AFTER_S)
        case DeadlineExceeded():
            message = "the deadline passed before the work was done"
            return Failure(codes.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", message)
        case FingerprintMismatch():
            message = "the workers run other weights or preprocessing than this gateway"
            return Failure(codes.FAILED_PRECONDITION, "FINGERPRINT_MISMATCH", message)
        case _:
            message = "the queue cannot be used right now"
            return Failure(codes.UNAVAILABLE, "QUEUE_UNAVAILABLE", message, _RETRY_AFTER_S)


def trailers(failure: Failure, error: Exception, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata that ends a refused call; stays under 8 KB."""
    status = status_pb2.Status(code=failure.code.value[0], message=failure.message)
    _add(status, error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN))
    _add(status, error_details_pb2.RequestInfo(request_id=request_id))
    pairs: list[tuple[str, str | bytes]] = [(REQUEST_ID_KEY, request_id)]
    if failure.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(failure.retry_after_s * 1000))
        _add(status, retry)
        pairs.append(("grpc-retry-pushback-ms", str(round(failure.retry_after_s * 1000))))
    if isinstance(error, InvalidRequest):
        _add(status, _bad_request(error))
    pairs.append(("grpc-status-details-bin", status.SerializeToString()))
    return tuple(pairs)


def _cut(message: str) -> str:
    """A message short enough for the trailers, even when each character takes nine bytes there."""
    return message if len(message) <= _MAX_MESSAGE_CHARACTERS else message[:_MAX_MESSAGE_CHARACTERS] + "…"


def _bad_request(error: InvalidRequest) -> error_details_pb2.BadRequest:
    details = error_details_pb2.BadRequest()
    for violation in error.violations:
        details.field_violations.add(
            field=violation.field, description=_cut(violation.message), reason=violation.reason
        )
        if details.ByteSize() > _MAX_DETAILS_BYTES:
            details.field_violations.pop()
            break
    return details


def _add(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)
