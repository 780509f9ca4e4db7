"""Items through EmbedStream: with so many unanswered at a time, or so many a second, arriving by chance."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.service.book import NUMBERS, Book
from siglip_client import Client, StreamItem

# The key of an item is when it was due.
MakeItem = Callable[[float, int], StreamItem]
# More than any service lets a stream have: then its credit is what bounds.
ALL = 100_000


async def closed(client: Client, make: MakeItem, in_flight: int, book: Book) -> None:
    free = threading.Semaphore(in_flight)

    def items() -> Iterator[StreamItem]:
        while free.acquire() and not book.ending:
            yield make(time.monotonic(), next(NUMBERS))

    await asyncio.to_thread(_run, client, items(), book, free.release)


async def whole(client: Client, make: MakeItem, count: int, book: Book) -> None:
    """So many items, as fast as they are taken."""
    items = (make(time.monotonic(), next(NUMBERS)) for _ in range(count))
    await asyncio.to_thread(_run, client, items, book, lambda: None)


async def opened(client: Client, make: MakeItem, per_s: float, book: Book) -> None:
    draw = random.Random(0)

    def items() -> Iterator[StreamItem]:
        due_s = time.monotonic()
        while not book.ending:
            time.sleep(max(0.0, due_s - time.monotonic()))
            yield make(due_s, next(NUMBERS))
            due_s += draw.expovariate(per_s)

    await asyncio.to_thread(_run, client, items(), book, lambda: None)


def _run(client: Client, items: Iterator[StreamItem], book: Book, answered: Callable[[], None]) -> None:
    """To the end of the measurement: what is then unanswered is given up."""
    for result in client.embed_stream(items):
        if result.error:
            book.failed(result.error)
        else:
            assert isinstance(result.key, float)
            book.answered(result.key)
        answered()
        if book.ending:
            break
