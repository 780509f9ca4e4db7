"""A failed call's gRPC status -> exception, and how long to wait before a retry."""

from __future__ import annotations

import random
import re
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from siglip_client.errors import FieldViolation, MessageTooLarge, SiglipError, class_of

REQUEST_ID_KEY = "x-request-id"
STOPPED_RETRY_S = 0.1
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_DETAILS_KEY = "grpc-status-details-bin"
# gRPC's account of a failed connection ends with the cause, after the names of its own parts.
_NOT_CONNECTED = re.compile(r"(?:last error|DNS resolution failed).*?: ([^:]+)(?:: FD Shutdown)?$")


class FailedCall(Protocol):
    """What grpc.RpcError of a sync call and grpc.aio.AioRpcError share."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> object: ...


def to_exception(call: FailedCall, address: str, request_id: str) -> SiglipError:
    """The exception that tells what went wrong with `call`."""
    code = call.code()
    metadata = _metadata(call)
    info, violations, retry_after_s = _rich_details(metadata.get(_DETAILS_KEY))
    pushback_ms = _pushback_ms(metadata)
    if pushback_ms is not None and pushback_ms >= 0:
        retry_after_s = pushback_ms / 1000
    details = " ".join((call.details() or "").split())
    # gRPC itself refuses large messages with the code that overload has.
    cls = MessageTooLarge if "message larger than max" in details and not info.reason else class_of(code)
    if unconnected := _NOT_CONNECTED.search(details):
        return cls(f"cannot connect to {address}: {unconnected[1]}", code=code)
    return cls(
        details or "no details given",
        code=code,
        reason=info.reason,
        domain=info.domain,
        metadata=info.metadata,
        violations=violations,
        retry_after_s=retry_after_s,
        request_id=str(metadata.get(REQUEST_ID_KEY, request_id)),
    )


def retry_wait_s(call: FailedCall, time_left_s: float) -> float | None:
    """Seconds to wait before sending an overloaded or cancelled call again; None: give up.

    gRPC retries UNAVAILABLE by itself. It would retry RESOURCE_EXHAUSTED with or
    without the server's consent, so that code is retried here, and only when the
    server names a pushback that ends before the deadline.
    """
    if call.code() is grpc.StatusCode.CANCELLED:
        # Not by us, that would be another exception: the call arrived as the server stopped.
        return STOPPED_RETRY_S if time_left_s > STOPPED_RETRY_S else None
    if call.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    told_s = pushback_s(call)
    if told_s is None:
        return None
    # Callers refused together should not come back together.
    wait_s = told_s * random.uniform(1.0, 1.25)
    return wait_s if wait_s < time_left_s else None


def pushback_s(call: FailedCall) -> float | None:
    """When the service wants to see the call again; None: not at all, or it does not say."""
    pushback_ms = _pushback_ms(_metadata(call))
    return None if pushback_ms is None or pushback_ms < 0 else pushback_ms / 1000


def reason_of(call: FailedCall) -> str:
    """The service's own reason; empty where gRPC itself failed."""
    told, _, _ = _rich_details(_metadata(call).get(_DETAILS_KEY))
    return str(told.reason)


def _metadata(call: FailedCall) -> dict[str, str | bytes]:
    pairs = call.trailing_metadata()
    return {str(key): value for key, value in pairs} if pairs else {}  # type: ignore[attr-defined]


def _pushback_ms(metadata: dict[str, str | bytes]) -> int | None:
    try:
        return int(metadata[_PUSHBACK_KEY])
    except KeyError:
        return None
    except ValueError:
        return -1  # gRPC's rule: what cannot be read means "do not retry"


def _rich_details(
    packed: str | bytes | None,
) -> tuple[error_details_pb2.ErrorInfo, list[FieldViolation], float | None]:
    """(what and whose, field violations, seconds to wait) from the google.rpc details."""
    told, retry_after_s = error_details_pb2.ErrorInfo(), None
    violations: list[FieldViolation] = []
    if not isinstance(packed, bytes):
        return told, violations, retry_after_s
    try:
        details = status_pb2.Status.FromString(packed).details
    except DecodeError:  # not from our service: a proxy's, perhaps
        return told, violations, retry_after_s
    for detail in details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            told = info
        elif detail.Unpack(bad):
            violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return told, violations, retry_after_s
