"""Calls in a closed loop (so many in flight) and in an open one (so many a second, arriving by chance)."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from benchmarks.service import cpu
from benchmarks.service.book import NUMBERS, Book, Measured, measured

Call = Callable[[int], Awaitable[object]]
Drive = Callable[[Book], Awaitable[None]]

SETTLING_SHARE = 0.25
LEAST_SETTLING_S = 1.0
AFTER_FAILURE_S = 0.05


async def measure(drive: Drive, seconds: float) -> Measured:
    """Drives for `seconds`, and before that until things have settled."""
    book = Book()
    driving = asyncio.ensure_future(drive(book))
    await asyncio.wait({driving}, timeout=max(LEAST_SETTLING_S, SETTLING_SHARE * seconds))
    before, begun_s = cpu.seconds(), time.monotonic()
    await asyncio.wait({driving}, timeout=seconds)
    after, ended_s = cpu.seconds(), time.monotonic()
    book.ending = True
    await driving
    return measured(book, begun_s, ended_s, cpu.between(before, after))


async def whole(drive: Drive) -> Measured:
    """Of one that ends by itself, from its beginning to its last answer."""
    book, before, begun_s = Book(), cpu.seconds(), time.monotonic()
    await drive(book)
    after, ended_s = cpu.seconds(), time.monotonic()
    found = measured(book, begun_s, ended_s, cpu.between(before, after))
    return replace(found, rate=len(book.answers) / (ended_s - begun_s))


async def closed(call: Call, in_flight: int, book: Book) -> None:
    async def caller() -> None:
        while not book.ending:
            await _one(call, time.monotonic(), book)

    await asyncio.gather(*(caller() for _ in range(in_flight)))


async def opened(call: Call, per_s: float, book: Book) -> None:
    """A call counts from when it was due, even if this program was late to make it."""
    draw, calls, due_s = random.Random(0), set[asyncio.Task[None]](), time.monotonic()
    while not book.ending:
        if (early_s := due_s - time.monotonic()) > 0:
            await asyncio.sleep(early_s)
        calls.add(task := asyncio.create_task(_one(call, due_s, book)))
        task.add_done_callback(calls.discard)
        due_s += draw.expovariate(per_s)
    await asyncio.gather(*calls)


async def _one(call: Call, due_s: float, book: Book) -> None:
    try:
        await call(next(NUMBERS))
    except Exception as error:
        book.failed(error)
        await asyncio.sleep(AFTER_FAILURE_S)
    else:
        book.answered(due_s)
