"""Polling inside an event loop."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Polls; fails with TimeoutError when the condition does not become true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is awaited lives in other processes)
            await asyncio.sleep(0.01)
