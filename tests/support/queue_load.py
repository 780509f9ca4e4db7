"""Calls without a pause through the queue alone, each with a known right answer."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker import BrokerError, BrokerUnavailable, GatewayEnd, Row
from tests.broker.waiting import until
from tests.support.queue_worker import text_row, vector_of

DEADLINE_S = 20.0


@dataclass
class Load:
    """How calls ended. `took_s` of those answered, in the order of their ends."""

    wrong: int = 0
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    stop: bool = False

    @property
    def right(self) -> int:
        return len(self.took_s) - self.wrong

    @property
    def longest_silence_s(self) -> float:
        return max(b - a for a, b in zip(self.ended_s, self.ended_s[1:], strict=False))

    def __str__(self) -> str:
        return (
            f"{self.right} right, {self.wrong} wrong, {self.refused} refused, errors {dict(self.errors)}, "
            f"slowest {max(self.took_s):.2f} s, longest silence {self.longest_silence_s:.2f} s"
        )

    async def goes_on(self, calls: int = 50) -> None:
        """Until so many more are answered."""
        wanted = self.right + calls
        await until(lambda: self.right >= wanted)

    async def call(self, gateway: GatewayEnd, *numbers: int) -> None:
        """Until it is answered; as clients do, one that is refused while Redis is away is made again."""
        row, started_s, answer = text_row(*numbers), time.monotonic(), None
        while answer is None:
            try:
                answer = await gateway.embed("text", [row], (16,), "int32", deadline_s=DEADLINE_S)
            except BrokerUnavailable:
                self.refused += 1
                await asyncio.sleep(0.05)
            except BrokerError as error:
                self.errors[type(error).__name__] += 1
                return
        self.wrong += answer.rows != [Row(*vector_of(row))]
        self.took_s.append(time.monotonic() - started_s)
        self.ended_s.append(time.monotonic())


@asynccontextmanager
async def load(gateway: GatewayEnd, callers: int = 8) -> AsyncIterator[Load]:
    """Runs while the block does; every call has ended when it is left."""
    found = Load()

    async def keep_calling(caller: int) -> None:
        number = 0
        while not found.stop:
            number += 1
            await found.call(gateway, caller, number)

    tasks = [asyncio.create_task(keep_calling(caller)) for caller in range(callers)]
    try:
        yield found
    finally:
        found.stop = True
        await asyncio.gather(*tasks)
