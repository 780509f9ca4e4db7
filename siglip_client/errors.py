"""Everything that a call can raise.

SiglipError             the parent of all; code, reason, domain, metadata, request_id
├── InvalidRequest      the request breaks a rule or a limit; violations
│   └── MessageTooLarge the request does not fit in one message
├── Unauthenticated     the service wants a token that it knows
├── NotFound            the named model, or the tower that a call needs, is not served;
│                       or a label set is not known
├── Overloaded          the service has too much to do; retry_after_s
├── Unavailable         no gateway or no worker answers
├── DeadlineExceeded    no answer within timeout_s
├── InternalError       everything else: a fault of the service
│   └── ModelChanged    another model is served than before; was, now
└── ItemErrors          some items of the list failed; errors, result

Arguments of the wrong type or shape raise TypeError or ValueError before
anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode

# The reason of a NotFound for which the label set has to be created again.
LABEL_SET_NOT_FOUND = "LABEL_SET_NOT_FOUND"
_MAX_ITEMS_NAMED = 3


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a call has no result.

    `index` is the item's position in the list that was given; `field` names
    list and position, for example "images[3]". `reason` is stable, for programs
    ("IMAGE_TRUNCATED"); `message` is for people.
    """

    index: int
    code: StatusCode
    reason: str
    message: str
    field: str
    retryable: bool = False

    def __str__(self) -> str:
        return f"{self.field}: {self.message} ({self.reason})"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule: the field's name in the request, and what is wrong."""

    field: str
    description: str


class SiglipError(Exception):
    """A call that has no result. `str()` gives one readable line.

    `reason`, `domain` and `metadata` are those of google.rpc.ErrorInfo; empty where the service
    gave none, as when gRPC itself failed.
    """

    code: StatusCode = StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: StatusCode | None = None,
        reason: str = "",
        domain: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.domain = domain
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.code.name}: {self.message}{reason}{request}"


class InvalidRequest(SiglipError):
    """The request breaks a rule or a limit; `violations` names the fields."""

    code = StatusCode.INVALID_ARGUMENT


class MessageTooLarge(InvalidRequest):
    """Request or reply is larger than one message may be."""


class Unauthenticated(SiglipError):
    """The service wants a token, and this is none that it knows."""

    code = StatusCode.UNAUTHENTICATED


class NotFound(SiglipError):
    """The named model, or the tower that a call needs, is not served; or a label set is not known."""

    code = StatusCode.NOT_FOUND


class Overloaded(SiglipError):
    """The service has too much to do; `retry_after_s` (or None) is its advice."""

    code = StatusCode.RESOURCE_EXHAUSTED


class Unavailable(SiglipError):
    """No gateway or no worker answers."""

    code = StatusCode.UNAVAILABLE


class DeadlineExceeded(SiglipError):
    """No answer within `timeout_s`."""

    code = StatusCode.DEADLINE_EXCEEDED


class InternalError(SiglipError):
    """A fault of the service."""

    code = StatusCode.INTERNAL


class ModelChanged(InternalError):
    """Vectors from now on are not comparable with those before; `was` and `now` are fingerprints."""

    def __init__(self, was: str, now: str) -> None:
        super().__init__(f"the served model changed from {was} to {now}")
        self.was, self.now = was, now


class ItemErrors(SiglipError):
    """Some items of the list failed.

    `errors` lists them by index; `result` is what `on_error="return"` returns,
    with the results of all other items.
    """

    def __init__(self, result: Any, count: int) -> None:
        self.result = result
        self.errors: tuple[ItemError, ...] = result.errors
        named = "; ".join(str(error) for error in self.errors[:_MAX_ITEMS_NAMED])
        more = len(self.errors) - _MAX_ITEMS_NAMED
        tail = f"; and {more} more" if more > 0 else ""
        message = f"{len(self.errors)} of {count} items failed: {named}{tail}"
        super().__init__(message, code=self.errors[0].code, reason=self.errors[0].reason)

    def __str__(self) -> str:
        return self.message


_RAISED: tuple[type[SiglipError], ...] = (
    InvalidRequest,
    Unauthenticated,
    NotFound,
    Overloaded,
    Unavailable,
    DeadlineExceeded,
)
_CLASSES = {cls.code: cls for cls in _RAISED} | {StatusCode.UNIMPLEMENTED: NotFound}


def class_of(code: StatusCode) -> type[SiglipError]:
    """The exception class of a gRPC status code."""
    return _CLASSES.get(code, InternalError)
