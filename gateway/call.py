"""One call on its way through the gateway: its identity, its deadline, its clock and where it is."""

import math
import re
import time
import uuid
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from broker import JobClass
from gateway.access import Caller
from siglip_settings import Tower

if TYPE_CHECKING:
    from siglip_traces.spans import Span

Stage = Literal["decode", "queue", "reply"]

UNKNOWN = Caller("")
# In their order. Scoring belongs to the reply: nothing can end a call while it runs.
STAGES: tuple[Stage, ...] = ("decode", "queue", "reply")
# One for all: a call that is not traced pays nothing for it.
_NO_SPAN: AbstractContextManager[None] = nullcontext()
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(slots=True)
class Call:
    """What the methods know of a call beside its request.

    `deadline` and `started` are in seconds of `time.monotonic()`; `own_s` is the time after which the server
    itself ends the call. `model` is the name of the served model, once it is known. `at` says in which
    stage each tower's side of it is. `tried_again`: whoever made it tries again what is refused, and counts
    the items of what ends without an answer.
    """

    method: str
    request_id: str
    deadline: float
    own_s: float = math.inf
    caller: Caller = UNKNOWN
    model: str = ""
    job_class: JobClass = "interactive"
    started: float = field(default_factory=time.monotonic)
    items: int = 0
    at: dict[Tower, Stage] = field(default_factory=dict)
    span: "Span | None" = None
    tried_again: bool = False

    def stage(self, tower: Tower, stage: Stage) -> "AbstractContextManager[Span | None]":
        """Enters a stage, and gives its span while the call is traced."""
        self.at[tower] = stage
        return self.traced(f"{stage} {tower}") if self.span else _NO_SPAN

    def traced(self, name: str) -> "AbstractContextManager[Span | None]":
        """A part of the call's time, as a span if the call is traced."""
        return self.span.child(name) if self.span else _NO_SPAN

    def waits_for(self) -> Stage:
        """The stage of the side that is furthest behind."""
        return min(self.at.values(), key=STAGES.index, default="reply")

    def left_s(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def elapsed_us(self) -> int:
        return microseconds_since(self.started)


def microseconds_since(start: float) -> int:
    """Microseconds since `start`, a reading of `time.monotonic()`."""
    return round((time.monotonic() - start) * 1e6)


def request_id_from(given: str | bytes | None) -> str:
    """The client's id when it is 1 to 128 letters, digits or `._:/+=-`; otherwise a new one."""
    if isinstance(given, str) and _SANE_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex
