"""Vectors that the gateways of a queue share. A cache and nothing more: slow, full or away, it is empty.

The queue comes first: nothing is written while the server's memory in use is above a bound.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from broker import wire
from broker.connection import AWAY, async_client, check_files, reason_of, unavailable
from broker.finding import place_of
from broker.jobs import RedisUrls, Row
from broker.keys import Keys
from broker.permissions import require_on_demand

log = logging.getLogger(__name__)

# A reader gives up after this, once more for each read that it needs; then nobody asks for a while.
READ_TIMEOUT_S = 0.05
PAUSE_S = 1.0
# Looking at this many vectors keeps the event loop for some milliseconds.
KEYS_PER_READ = 128
ROWS_PER_WRITE = 256
# What waits to be written beyond this is dropped.
MAX_WAITING_ROWS = 4096
# Most of the server's maxmemory up to which vectors are written: the rest is the queue's.
MEMORY_SHARE = 0.25
# Between two looks at the memory a gateway writes at most this part of what is free: others write, too.
LOOK_EVERY_S = 0.5
PART = 1 / 8
# Of a key beside its vector.
ENTRY_BYTES = 400


class SharedCache:
    """One per gateway, on its event loop. All of its keys are in the queue's first shard."""

    def __init__(self, settings: RedisUrls, *, tag: str, dim: int, max_bytes: int, ttl_s: float) -> None:
        check_files(settings)
        self._settings = settings
        self._keys = Keys(tag)
        self._dim, self._max_bytes, self._ttl_ms = dim, max_bytes, max(1, round(ttl_s * 1000))
        place = place_of(settings, self._keys.cached(b""))
        self._reading, self._writing = (async_client(settings, place) for _ in range(2))
        self._asked: list[tuple[Sequence[bytes], asyncio.Future[dict[bytes, Row]]]] = []
        self._unwritten: deque[tuple[bytes, Row]] = deque(maxlen=MAX_WAITING_ROWS)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._paused_until_s = 0.0
        self._room = 0.0
        self._looked_s = -LOOK_EVERY_S
        self._told: set[str] = set()

    async def start(self) -> None:
        """Raises BrokerUnavailable where this user may not use it; a server that is away may come back."""
        try:
            await require_on_demand(self._reading, "gateway", self._keys, "cache")
        except NoPermissionError as error:
            await self.close()
            raise unavailable(self._settings, error) from error
        except AWAY as error:
            self._pause(error)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Row]:
        """What is known of these digests; at once nothing while the server is slow or away."""
        if not keys or time.monotonic() < self._paused_until_s:
            return {}
        answer: asyncio.Future[dict[bytes, Row]] = asyncio.get_running_loop().create_future()
        self._asked.append((keys, answer))
        self._start("read", self._read_all)
        timeout_s = READ_TIMEOUT_S * (1 + len(keys) // KEYS_PER_READ)
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            self._pause(TimeoutError(f"no answer in {timeout_s:g} s"))
            return {}

    def put(self, key: bytes, row: Row) -> None:
        """Written in the background, if at all."""
        if time.monotonic() >= self._paused_until_s:
            self._unwritten.append((key, row))
            self._start("write", self._write_all)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for client in (self._reading, self._writing):
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A connection serves one task, which does all that has come together meanwhile."""
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.create_task(work(), name=f"broker-cache-{name}")

    async def _read_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            # For whoever has given up nothing is read.
            wanted = {key: None for keys, answer in asked if not answer.done() for key in keys}
            found: dict[bytes, Row] = {}
            with self._nobody_fails("read"):
                found = await self._read(list(wanted))
            for keys, answer in asked:
                if not answer.done():
                    answer.set_result({key: found[key] for key in keys if key in found})

    async def _read(self, wanted: list[bytes]) -> dict[bytes, Row]:
        found: dict[bytes, Row] = {}
        for start in range(0, len(wanted), KEYS_PER_READ):
            part = wanted[start : start + KEYS_PER_READ]
            values: list[Any] = await self._reading.mget([self._keys.cached(key) for key in part])
            for key, value in zip(part, values, strict=True):
                if value and (row := wire.unpack_row(key, value, self._dim)):
                    found[key] = row
        return found

    async def _write_all(self) -> None:
        with self._nobody_fails("written"):
            while self._unwritten:
                await self._look()
                await self._write(min(ROWS_PER_WRITE, len(self._unwritten)))

    async def _write(self, count: int) -> None:
        pipe = self._writing.pipeline(transaction=False)
        for _ in range(count):
            key, row = self._unwritten.popleft()
            size = len(row.vector) + ENTRY_BYTES
            if size <= self._room:
                self._room -= size
                pipe.set(self._keys.cached(key), wire.pack_row(key, row), px=self._ttl_ms)
        if len(pipe):
            await pipe.execute()

    async def _look(self) -> None:
        """How much may be written until the next look."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s, self._room = now_s, 0.0
        memory = await self._writing.info("memory")
        limit, most = float(self._max_bytes), int(memory.get("maxmemory", 0))
        if most:
            limit = min(limit, MEMORY_SHARE * most)
        self._room = max(0.0, limit - int(memory["used_memory"])) * PART

    @contextlib.contextmanager
    def _nobody_fails(self, done: str) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            self._pause(error)
        except Exception:
            log.exception("the shared cache cannot be %s", done)
            self._paused_until_s = time.monotonic() + PAUSE_S

    def _pause(self, error: BaseException) -> None:
        self._paused_until_s = time.monotonic() + PAUSE_S
        self._unwritten.clear()
        if (reason := reason_of(error)) not in self._told and len(self._told) < 8:
            self._told.add(reason)
            log.warning("the shared cache is not used for a while: %s", reason)
