"""How many entries a call finds before it, while what was last seen of Redis is old."""

import asyncio

from broker.held import Held, Waiting
from broker.sender import Sender


async def test_what_was_sent_since_the_last_look_counts_too() -> None:
    held = Held()
    sender = Sender(None, held, lambda error: error)  # type: ignore[arg-type, return-value]
    entries = [Waiting(bytes([n]) * 16, "text", "s", "a", b"", b"", 1, asyncio.Future()) for n in range(6)]
    held.hold(entries)
    assert held.depth["s"] == 0 and sender.depth("s") == 6
    sender.add(entries[:2])
    assert sender.depth("s") == 6
    held.depth["s"] = 40
    assert sender.depth("s") == 42
