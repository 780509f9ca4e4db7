"""Reads and prepares rows in threads, ahead of who takes them, in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siglip_jobs.decoders import Decoders, Pixels
from siglip_jobs.errors import Problem
from siglip_jobs.options import Options
from siglip_jobs.rows import Row, Text, loaded

if TYPE_CHECKING:
    from siglip_client import ModelDescription

READERS = 8
"""Threads that read files: a disk, and more so a network, serves several at a time."""

Prepared = str | bytes | Pixels | Problem
Prepare = Callable[[Row], Prepared]


@contextmanager
def preparing(options: Options, model: "ModelDescription") -> Iterator[Prepare]:
    """What makes a text, an encoded image or its pixels of a row, as the options say; for any thread."""
    max_bytes = model.limits.max_image_bytes
    if options.decode == "gateway":
        yield lambda row: loaded(row.content, max_bytes)
        return
    decoders = Decoders(model, options.decode_processes)

    def decoded(row: Row) -> Prepared:
        content = loaded(row.content, max_bytes)
        return decoders(content) if isinstance(content, bytes) else content

    try:
        yield decoded
    finally:
        decoders.close()


def prepared(rows: Iterable[Row], prepare: Prepare, options: Options) -> Iterator[tuple[Row, Prepared]]:
    """At most twice as many rows as threads are held."""
    threads = READERS + (options.decode_processes if options.decode == "client" else 0)
    waiting: deque[tuple[Row, Future[Prepared]]] = deque()
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


def _next(waiting: "deque[tuple[Row, Future[Prepared]]]") -> tuple[Row, Prepared]:
    row, future = waiting.popleft()
    return row, future.result()
