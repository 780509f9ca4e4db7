"""Answers that real servers rarely give: they fail on purpose, or are newer than the client.

All are of bytes, so that they can say what this version's messages cannot.
"""

import struct
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from siglip.v1 import embedding_pb2, types_pb2

# Exact in every encoding.
NUMBERS = (0.5, -0.25, 2.0, 0.0)
_UNKNOWN_DTYPE = 99
# Field 1000 with the number 7, as a newer message may have.
_UNKNOWN_FIELD = bytes.fromhex("c03e07")
_DOMAIN = "siglip.v1"


class Peculiar(grpc.GenericRpcHandler):
    """One server; `requests` are all that came, attempts included."""

    def __init__(self, answer: Callable[["Peculiar", Any, Any], Any]) -> None:
        self._answer = answer
        self.requests: list[bytes] = []

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._handle)

    def _handle(self, request: bytes, context: Any) -> bytes:
        self.requests.append(request)
        return self._answer(self, request, context)


def unavailable_twice(server: Peculiar, request: bytes, context: Any) -> bytes:
    if len(server.requests) <= 2:
        fail(context, grpc.StatusCode.UNAVAILABLE, "STOPPING", "told to fail")
    if len(set(server.requests)) > 1:
        fail(context, grpc.StatusCode.INTERNAL, "CHANGED", "the attempts differ")
    return answered()


def unavailable(server: Peculiar, request: bytes, context: Any) -> bytes:
    return fail(context, grpc.StatusCode.UNAVAILABLE, "STOPPING", "told to fail")


def exhausted_once(server: Peculiar, request: bytes, context: Any) -> bytes:
    """With leave to come back."""
    if len(server.requests) == 1:
        overloaded(context, retry_ms=50, pushback="50")
    return answered()


def exhausted(server: Peculiar, request: bytes, context: Any) -> bytes:
    """Without: when is told to the user, and gRPC's own word is missing."""
    return overloaded(context, retry_ms=1500)


def told_off(server: Peculiar, request: bytes, context: Any) -> bytes:
    """gRPC's word for: do not come back."""
    return overloaded(context, retry_ms=1500, pushback="-1")


def newer_fields(server: Peculiar, request: bytes, context: Any) -> bytes:
    """In the reply, in a result, and in a vector."""
    vector = types_pb2.Vector.FromString(vector_of(types_pb2.DTYPE_F32).SerializeToString() + _UNKNOWN_FIELD)
    result = embedding_pb2.EmbeddingResult(embedding=vector)
    result.MergeFromString(_UNKNOWN_FIELD)
    return answered(result) + _UNKNOWN_FIELD


def newer_dtype(server: Peculiar, request: bytes, context: Any) -> bytes:
    """The second of three vectors."""
    kinds = (types_pb2.DTYPE_F32, _UNKNOWN_DTYPE, types_pb2.DTYPE_F32)
    return answered(*(embedding_pb2.EmbeddingResult(embedding=vector_of(kind)) for kind in kinds))


def newer_details(server: Peculiar, request: bytes, context: Any) -> bytes:
    """An unknown kind of detail before the known ones."""
    unknown = any_pb2.Any(type_url="type.googleapis.com/siglip.v9.Unheard", value=_UNKNOWN_FIELD)
    info = error_details_pb2.ErrorInfo(
        reason="LIMIT_EXCEEDED", domain=_DOMAIN, metadata={"limit": "5", "given": "7"}
    )
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="texts", description="7 given, at most 5 allowed")
    status = _status(grpc.StatusCode.INVALID_ARGUMENT, "texts: 7 given, at most 5 allowed", info, bad)
    status.details.insert(0, unknown)
    return _abort(context, status)


BEHAVIOURS: dict[str, Callable[[Peculiar, bytes, Any], bytes]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        unavailable_twice,
        unavailable,
        exhausted_once,
        exhausted,
        told_off,
        newer_fields,
        newer_dtype,
        newer_details,
    )
}


def vector_of(dtype: int) -> types_pb2.Vector:
    """NUMBERS; the data is float32's whatever the dtype says."""
    data = struct.pack(f"<{len(NUMBERS)}f", *NUMBERS)
    return types_pb2.Vector(data=data, dtype=dtype, dim=len(NUMBERS), scale=1)  # type: ignore[arg-type]


def answered(*results: embedding_pb2.EmbeddingResult) -> bytes:
    """A reply to EmbedTexts or EmbedImages, which are alike."""
    plain = embedding_pb2.EmbeddingResult(embedding=vector_of(types_pb2.DTYPE_F32))
    model = types_pb2.ModelInfo(name="peculiar", fingerprint="f00d")
    return embedding_pb2.EmbedTextsResponse(results=results or [plain], model=model).SerializeToString()


def overloaded(context: Any, *, retry_ms: int, pushback: str | None = None) -> bytes:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(retry_ms)
    info = error_details_pb2.ErrorInfo(reason="OVERLOADED", domain=_DOMAIN)
    status = _status(grpc.StatusCode.RESOURCE_EXHAUSTED, "told to refuse", info, retry)
    return _abort(context, status, pushback)


def fail(context: Any, code: grpc.StatusCode, reason: str, message: str) -> bytes:
    return _abort(context, _status(code, message, error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN)))


def _status(code: grpc.StatusCode, message: str, *details: Any) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _abort(context: Any, status: status_pb2.Status, pushback: str | None = None) -> bytes:
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if pushback is not None:
        trailers.append(("grpc-retry-pushback-ms", pushback))
    context.set_trailing_metadata(tuple(trailers))
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    context.abort(code, status.message)
    raise AssertionError("abort raises")
