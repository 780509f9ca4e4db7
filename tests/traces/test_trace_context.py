"""The words of strangers about traces: read when they keep the rules, ignored otherwise."""

import pytest

from siglip_traces import context
from siglip_traces.context import Parent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_context_comes_out_as_it_went_in() -> None:
    there = Parent(int(TRACE, 16), int(SPAN, 16), 1, (("rojo", "00f067aa0ba902b7"), ("t@vendor", "a b:c")))
    assert context.read(context.write(there)) == there
    assert context.write(there) == f"{GOOD} rojo=00f067aa0ba902b7,t@vendor=a b:c"
    assert context.write(Parent(1, 2, 0)) == f"00-{1:032x}-{2:016x}-00"


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        b"bytes",
        "",
        "nonsense",
        GOOD.upper(),
        GOOD + " ",
        GOOD + "\n",
        GOOD + "-more",
        "ff" + GOOD[2:],
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"0-{TRACE}-{SPAN}-01",
        "٠٠" + GOOD[2:],
        f"01-{TRACE}-{SPAN}-01x",
        f"01-{TRACE}-{SPAN}-01-{'x' * 5000}",
    ],
)
def test_a_malformed_traceparent_is_none(traceparent: object) -> None:
    assert context.parent(traceparent) is None


def test_a_later_version_may_say_more() -> None:
    found = context.parent(f"01-{TRACE}-{SPAN}-01-more")
    assert found and found.trace_id == int(TRACE, 16)


@pytest.mark.parametrize(
    "tracestate",
    [
        None,
        "",
        "novalue",
        "UPPER=1",
        "a=1,a=2",
        "a=b=c",
        "a=1\n",
        "a=1,b=\u00fc",
        "a=" + "x" * 257,
        ",".join(f"k{i}=1" for i in range(33)),
        ",".join(f"{'k' * 30}{i}=1" for i in range(20)),
    ],
)
def test_a_malformed_tracestate_does_not_cost_the_trace(tracestate: object) -> None:
    found = context.parent(GOOD, tracestate)
    assert found == Parent(int(TRACE, 16), int(SPAN, 16), 1)
