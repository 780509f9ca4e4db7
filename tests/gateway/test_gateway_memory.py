"""What large messages leave behind goes back to the system, now and then."""

import asyncio

import pytest

from gateway.memory import Trimmer
from tests.gateway.rig import until


async def test_heaps_are_trimmed_after_large_messages_and_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trimmer, "EVERY_S", 0.05)
    trimmer, trimmed = Trimmer(), []
    trimmer._trim = trimmed.append
    trimmer.after(Trimmer.LARGE_BYTES)
    assert not trimmer._last_s
    for _ in range(5):
        trimmer.after(Trimmer.LARGE_BYTES + 1)
    await until(lambda: bool(trimmed))
    await asyncio.sleep(Trimmer.EVERY_S)  # four more would have come by now
    assert trimmed == [0]
