"""Reads and prepares rows in threads, ahead of who takes them, in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from siglip_jobs.errors import Problem
from siglip_jobs.rows import Row, Text

Content = TypeVar("Content")


def prepared(
    rows: Iterable[Row], prepare: Callable[[Row], Content], threads: int
) -> Iterator[tuple[Row, Content]]:
    """(row, what `prepare` makes of it); at most twice as many rows as threads are held."""
    waiting: deque[tuple[Row, Future[Content]]] = deque()
    pool = ThreadPoolExecutor(threads, "siglip-reader")
    try:
        for row in rows:
            if not waiting and isinstance(row.content, Text | Problem):  # nothing to wait for
                yield row, prepare(row)
                continue
            waiting.append((row, pool.submit(prepare, row)))
            if len(waiting) > 2 * threads:
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _next(waiting: "deque[tuple[Row, Future[Content]]]") -> tuple[Row, Content]:
    row, future = waiting.popleft()
    return row, future.result()
