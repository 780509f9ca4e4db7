"""Label sets that the gateways of a queue share, the ones used last, up to a bound in bytes.

Several gateways may add at once: the bound is then met again by whoever adds next.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast

from redis.exceptions import OutOfMemoryError, RedisError

from broker.connection import async_client, check_files, unavailable
from broker.errors import QueueFull
from broker.finding import place_of
from broker.jobs import RedisUrls
from broker.keys import Keys

Result = TypeVar("Result")

TIMEOUT_S = 1.0
RETRY_AFTER_S = 1.0
MAX_SETS = 1000


class LabelSetStore:
    """One per gateway, on its event loop. Values are bytes, which whoever reads them has to check."""

    def __init__(self, settings: RedisUrls, *, tag: str, max_bytes: int, ttl_s: float) -> None:
        check_files(settings)
        self._settings = settings
        self._keys = Keys(tag)
        self._max_bytes, self._ttl_ms = max_bytes, max(1, round(ttl_s * 1000))
        self._client = async_client(settings, place_of(settings, self._keys.label_sets()))
        # A connection serves one task.
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, handle: str) -> bytes | None:
        """Its value, which is renewed by that; None when there is none. Raises BrokerUnavailable."""
        return await self._ask(partial(self._get, handle))

    async def renew(self, handle: str, value: bytes) -> None:
        """It has been used; what was lost is put back. Raises as `put`."""
        await self._ask(partial(self._renew, handle, value))

    async def put(self, handle: str, value: bytes) -> None:
        """Those that were used longest ago make room. Raises BrokerUnavailable, or QueueFull."""
        await self._ask(partial(self._put, handle, value))

    async def close(self) -> None:
        """What is not done by now is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    async def _ask(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Whoever leaves, or has waited long enough, does not break off what is on its way."""
        task = asyncio.create_task(self._locked(work), name="broker-label-sets")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=TIMEOUT_S)
        if not task.done():
            raise unavailable(self._settings, TimeoutError(f"no answer in {TIMEOUT_S:g} s"))
        try:
            return task.result()
        except OutOfMemoryError as error:
            raise QueueFull("Redis has no memory for a label set", RETRY_AFTER_S, "queue_memory") from error
        except (RedisError, OSError) as error:
            raise unavailable(self._settings, error) from error

    async def _locked(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        async with self._lock:
            return await work()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits; where nobody does, it is not worth a word

    async def _get(self, handle: str) -> bytes | None:
        value = cast("bytes | None", await self._client.get(self._keys.label_set(handle)))
        if value is not None:
            await self._used(handle, len(value))
        return value

    async def _renew(self, handle: str, value: bytes) -> None:
        if await self._client.pexpire(self._keys.label_set(handle), self._ttl_ms):
            await self._used(handle, len(value))
        else:
            await self._put(handle, value)

    async def _put(self, handle: str, value: bytes) -> None:
        await self._make_room(handle, len(value))
        await self._client.set(self._keys.label_set(handle), value, px=self._ttl_ms)
        await self._used(handle, len(value))

    async def _used(self, handle: str, size: int) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.pexpire(self._keys.label_set(handle), self._ttl_ms)
        pipe.zadd(self._keys.label_sets(), {f"{handle}:{size}": time.time()})
        pipe.pexpire(self._keys.label_sets(), self._ttl_ms)
        await pipe.execute()

    async def _make_room(self, handle: str, size: int) -> None:
        oldest_first: Any = await self._client.zrange(self._keys.label_sets(), 0, -1)
        used, kept, dropped, stale = size, 1, [], []
        for member in reversed(oldest_first):
            name, _, length = member.decode(errors="replace").rpartition(":")
            if name == handle:
                stale += [member] * (member != b"%s:%d" % (handle.encode(), size))
                continue
            used, kept = used + (int(length) if length.isdecimal() else 0), kept + 1
            if used > self._max_bytes or kept > MAX_SETS:
                dropped.append((member, name))
        if dropped or stale:
            await self._client.zrem(self._keys.label_sets(), *stale, *(member for member, _ in dropped))
        if dropped:
            await self._client.delete(*(self._keys.label_set(name) for _, name in dropped))
