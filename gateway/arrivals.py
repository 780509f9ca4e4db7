"""Bounds the messages that arrive slowly: gRPC holds what has come of them, and no other limit counts it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from broker import fair_share
from gateway.errors import Overloaded

# Nearly all messages are there by then.
PROMPT_S = 0.25
RETRY_AFTER_S = 1.0


class Arrivals:
    def __init__(self, max_slow_messages: int) -> None:
        self._most = max_slow_messages
        self._slow_of: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """While the block waits for a message. Raises Overloaded when it is slow and too many are."""
        waiting = _Waiting(self, caller)
        timer = asyncio.get_running_loop().call_later(PROMPT_S, waiting.is_slow)
        try:
            yield
        except asyncio.CancelledError:
            if waiting.refusal is None:
                raise
            waiting.task.uncancel()
            raise waiting.refusal from None
        finally:
            timer.cancel()
            if waiting.counted:
                self._slow_of[caller] -= 1
                self._slow_of += Counter()  # forgets who has none

    def admit(self, caller: str) -> None:
        """Counts one more slow message. Raises Overloaded."""
        used, own = self._slow_of.total(), self._slow_of[caller]
        share = fair_share(self._most, used)
        if used >= self._most:
            raise Overloaded("max_slow_messages", self._most, 1, used, RETRY_AFTER_S)
        if own and own >= share:
            raise Overloaded(
                "max_slow_messages", share, 1, own, RETRY_AFTER_S, "the fair share", "fair_share"
            )
        self._slow_of[caller] += 1


class _Waiting:
    def __init__(self, arrivals: Arrivals, caller: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[object] = task
        self._arrivals, self._caller = arrivals, caller
        self.counted = False
        self.refusal: Overloaded | None = None

    def is_slow(self) -> None:
        try:
            self._arrivals.admit(self._caller)
        except Overloaded as refusal:
            self.refusal = refusal
            self.task.cancel()
        else:
            self.counted = True
