"""Why a call is refused, or one item of it.

GatewayError
├── InvalidRequest    INVALID_ARGUMENT     one violation or several, each naming its field
├── Unauthenticated   UNAUTHENTICATED      no token, or none that is known
├── UnknownModel      NOT_FOUND
├── LabelSetNotFound  NOT_FOUND            says to create it again
├── TowerNotServed    UNIMPLEMENTED
├── Overloaded        RESOURCE_EXHAUSTED   says when to try again
├── Stopping          UNAVAILABLE          says when to try again
├── TimeIsUp          DEADLINE_EXCEEDED
└── LabelFailed       the code of the label's own failure
StartError            the process cannot serve; one line, ready to show

`status.py` turns these, and the broker's errors, into gRPC statuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
from siglip.v1 import types_pb2

_SHOWN_CHARACTERS = 60


class StartError(Exception):
    """The gateway cannot start. The message is one line that says what to do."""


class GatewayError(Exception):
    """A call is refused. The message is for the client."""

    code: ClassVar[grpc.StatusCode]
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field of a request."""

    field: str
    reason: str
    message: str


class InvalidRequest(GatewayError):
    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, violations: Sequence[Violation]) -> None:
        first, others = violations[0], len(violations) - 1
        more = f" (and {others} more)" if others else ""
        super().__init__(f"{first.field}: {first.message}{more}")
        self.reason = first.reason
        self.violations = violations


class Unauthenticated(GatewayError):
    code = grpc.StatusCode.UNAUTHENTICATED

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownModel(GatewayError):
    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_UNKNOWN"

    def __init__(self, asked: str, served: Sequence[str]) -> None:
        names = ", ".join(map(shown, served))
        super().__init__(f"model {shown(asked)} is not served here; this server serves {names}")


class LabelSetNotFound(GatewayError):
    code = grpc.StatusCode.NOT_FOUND
    reason = "LABEL_SET_NOT_FOUND"

    def __init__(self, handle: str) -> None:
        super().__init__(f"label set {handle} is unknown or has expired; create it again with CreateLabelSet")


class TowerNotServed(GatewayError):
    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "TOWER_NOT_SERVED"

    def __init__(self, tower: str, served: str) -> None:
        super().__init__(f"this call needs the {tower} tower; this deployment serves only: {served}")


class Overloaded(GatewayError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(
        self,
        limit_name: str,
        limit: int,
        asked: int,
        used: int,
        retry_after_s: float,
        whose: str = "",
        wall: str = "",
    ) -> None:
        of = f" of {whose}" if whose else ""
        super().__init__(
            f"{limit_name}{of} is {limit}: this call needs {asked} and {used} are in use; try again later"
        )
        self.retry_after_s = retry_after_s
        # The limit that was met, for whoever counts refusals.
        self.wall = wall or limit_name.removeprefix("max_")


class Stopping(GatewayError):
    code = grpc.StatusCode.UNAVAILABLE
    reason = "STOPPING"
    retry_after_s = 1.0

    def __init__(self) -> None:
        super().__init__("this server is stopping; call again to reach another one")


class TimeIsUp(GatewayError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"not answered within {limit_s:g} s, the longest time that this server gives to such a call"
        )


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why one item of a call has no result. The other items are answered."""

    code: grpc.StatusCode
    reason: str
    message: str
    retryable: bool = False

    def to_proto(self, index: int, list_name: str) -> types_pb2.ItemError:
        return types_pb2.ItemError(
            index=index,
            code=self.code.value[0],
            reason=self.reason,
            message=self.message,
            field=f"{list_name}[{index}]",
            retryable=self.retryable,
        )


class LabelFailed(GatewayError):
    """A label has no vector, so no image can be classified."""

    def __init__(self, index: int, failure: ItemFailure) -> None:
        super().__init__(f"labels[{index}]: {failure.message}")
        self.failure = failure
        self.reason = failure.reason


def shown(text: str) -> str:
    """Text of a client, quoted and cut so that no error grows with it."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
