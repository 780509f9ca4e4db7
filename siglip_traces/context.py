"""W3C trace context as strangers send it: read strictly, and ignored where it is malformed."""

import re
from dataclasses import dataclass

MAX_STATE_CHARACTERS = 512
MAX_STATE_MEMBERS = 32

_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.{0,200})?"
)
_MEMBER = re.compile(
    r"(?P<key>[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=(?P<value>[ -+\--<>-~]{0,255}[!-+\--<>-~])"
)


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of another process."""

    trace_id: int
    span_id: int
    flags: int
    state: tuple[tuple[str, str], ...] = ()


def read(trace_context: str) -> Parent | None:
    """`traceparent` and, after a space, `tracestate`, as `write` puts them together."""
    traceparent, _, tracestate = trace_context.partition(" ")
    return parent(traceparent, tracestate)


def write(found: Parent) -> str:
    """The opposite of `read`."""
    traceparent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.flags:02x}"
    tracestate = ",".join(f"{key}={value}" for key, value in found.state)
    return f"{traceparent} {tracestate}" if tracestate else traceparent


def parent(traceparent: object, tracestate: object = "") -> Parent | None:
    """None when there is no `traceparent`, or none that can be read."""
    found = _PARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    # Later versions may say more at the end; the first one may not.
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    state = _members(tracestate) if isinstance(tracestate, str) else ()
    return Parent(int(found["trace"], 16), int(found["span"], 16), int(found["flags"], 16), state)


def _members(tracestate: str) -> tuple[tuple[str, str], ...]:
    """All of them, or none when one is malformed or there are too many."""
    if len(tracestate) > MAX_STATE_CHARACTERS:
        return ()
    members = [_MEMBER.fullmatch(part.strip(" \t")) for part in tracestate.split(",") if part.strip(" \t")]
    if len(members) > MAX_STATE_MEMBERS:
        return ()
    state = {member["key"]: member["value"] for member in members if member}
    return tuple(state.items()) if len(state) == len(members) else ()
