"""Sends a known row through queue and workers now and then, and looks at the vector that comes back.

A live lease says that a worker's process is alive; this says that it computes this model.
"""

import asyncio
import logging
import math
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from broker import BrokerError, GatewayEnd, QueueFull, Row
from gateway.served import ServedModel
from siglip_model.golden import Vector, distance
from siglip_settings import Tower

log = logging.getLogger(__name__)

# Of 1 - cosine: workers may compute in bfloat16.
TOLERANCE = 1e-2
TIMEOUT_S = 10.0
RETRY_S = 1.0
LOOK_EVERY_S = 0.05
# Of a tower's time, for each gateway: a large model on a CPU takes half a second for one picture.
MAX_SHARE_OF_TIME = 0.01
MAX_PAUSE_S = 60.0
REMEMBERED = 5


@dataclass
class Canary:
    """Of one tower. `proved` is what readiness asks for."""

    tower: Tower
    model: ServedModel
    broker: GatewayEnd
    every_s: float
    proved: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._row, self._shape, self._dtype = self.model.canary_row(self.tower)
        # Without stored vectors the first answer is the measure: a worker that changes is noticed.
        self._golden: Vector | None = self.model.golden.get(self.tower)
        self._took_s = deque[float](maxlen=REMEMBERED)

    @property
    def pause_s(self) -> float:
        """Until the next one."""
        if not self.proved:
            return min(RETRY_S, self.every_s)
        # The shortest of the last ones: a batch that others filled takes longer than its row alone.
        took_s = min(self._took_s, default=math.inf)
        return max(self.every_s, min(took_s / MAX_SHARE_OF_TIME, MAX_PAUSE_S))

    async def follow(self) -> None:
        """Until cancelled. Without workers nobody is asked; the tower must prove itself when one comes."""
        due_s = 0.0
        while True:
            if not await self.broker.workers(self.tower):
                self.proved, due_s = False, 0.0
                self._took_s.clear()
            elif time.monotonic() >= due_s:
                await self._send_safely()
                due_s = time.monotonic() + self.pause_s
            await asyncio.sleep(LOOK_EVERY_S)

    async def _send_safely(self) -> None:
        """Readiness must not rest on a task that has ended."""
        try:
            await self.send()
        except Exception:
            log.exception("the canary of the %s tower of %r could not be sent", self.tower, self.model.name)
            self.proved = False

    async def send(self) -> None:
        """One canary. A full queue is no failure, nor is lateness while others are answered."""
        answered = self.broker.answered(self.tower)
        try:
            answer = await self.broker.embed(
                self.tower, [self._row], self._shape, self._dtype, deadline_s=TIMEOUT_S, caller="canary"
            )
        except QueueFull as error:
            # Refused here: it says nothing about workers. Those that hang lose their lease.
            if not self.proved:
                self._failed(f"no answer: {error}")
            return
        except BrokerError as error:
            if not self.proved or self.broker.answered(self.tower) == answered:
                self._failed(f"no answer: {error}")
            return
        row = answer.rows[0]
        if isinstance(row, Row):
            self._took_s.append(answer.compute_us / 1e6)
            self._judge(np.frombuffer(row.vector, "<f4"))
        else:
            self._failed(row.message)

    def _judge(self, vector: Vector) -> None:
        golden = vector if self._golden is None else self._golden
        found = distance(vector, golden)
        # Written so that NaN, of whichever side, is wrong.
        if not found <= TOLERANCE:
            self._failed(f"a wrong vector: 1 - cosine is {found:.2g}, at most {TOLERANCE:g}")
            return
        if not self.proved:
            log.info(
                "the %s tower of %r has proved itself: 1 - cosine is %.1e",
                self.tower,
                self.model.name,
                max(0.0, found),
            )
        self._golden, self.proved = golden, True

    def _failed(self, reason: str) -> None:
        log.error("the %s tower of %r fails its canary: %s", self.tower, self.model.name, reason)
        self.proved = False
