"""Decodes images in threads, off the event loop. Callers take turns; what would be late is refused."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc

from broker import PATIENCE, JobClass, Line, WouldBeLate
from gateway.errors import ItemFailure
from gateway.helpers import DecoderFailed
from siglip_model.image_processing import ImageError

log = logging.getLogger(__name__)

# Where images take less, one more waits behind each thread, so that none idles. Slow ones delay others there.
_QUICK_S = 0.02
# An image of no bytes costs as much as one more of these.
_BYTES_OF_A_START = 8 * 1024
# Of what was seen earlier, at each image: about the last fifty count.
_FORGETTING = 0.98
Row = bytes | ItemFailure


@dataclass(slots=True, eq=False)
class _Picture:
    image: bytes
    caller: str
    done: "asyncio.Future[Row]" = field(default_factory=asyncio.Future)
    rows: int = 1


class DecodePool:
    """`decode` turns an encoded image into a row for the vision tower, or raises ImageError or another."""

    def __init__(
        self, decode: Callable[[bytes], bytes], threads: int, on_close: Callable[[], None] = lambda: None
    ) -> None:
        self._decode = decode
        self._on_close = on_close
        self._thread_count = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._line = Line[_Picture](turn_rows=1)
        self._begun = 0
        self._closed = False
        # Of the calls in work, by caller; and what was measured.
        self._bytes_of: Counter[str] = Counter()
        self._seconds = self._decoded_bytes = self._pictures = 0.0

    async def decode_all(
        self,
        images: Sequence[bytes],
        caller: str = "",
        left_s: float = math.inf,
        job_class: JobClass = "interactive",
    ) -> list[Row]:
        """The rows in the order of `images`. A cancelled call drops what no thread has begun.

        Interactive and batch calls of one caller take turns, like those of two callers.

        Raises WouldBeLate when that would take too much of the `left_s` seconds.
        """
        rows: list[Row] = [b""] * len(images)
        # Shared by the runners: each takes the next image. With as many runners as threads, a call of
        # many images does not keep its caller's calls of few waiting behind all of them. Batch calls are
        # decoded one after the other instead, so that the first is ready while the last still waits.
        runners = self._thread_count if job_class == "interactive" else len(images)
        caller = caller if job_class == "interactive" else f"{caller} ({job_class})"
        positions = iter(range(len(images)))

        async def run() -> None:
            for position in positions:
                rows[position] = await self._decoded(_Picture(images[position], caller))

        with self._room(caller, sum(map(_cost, images)), left_s):
            if len(images) == 1:
                await run()
            else:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(len(images), runners)):
                        group.create_task(run())
        return rows

    def close(self) -> None:
        """What waits is cancelled, what is in work is ended."""
        self._closed = True
        while picture := self._line.pop():
            picture.done.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._on_close()
        self._threads.shutdown()

    @contextmanager
    def _room(self, caller: str, size: int, left_s: float) -> Iterator[None]:
        wait_s = self._wait_s(caller, size)
        if self._bytes_of and wait_s > PATIENCE * left_s:
            message = f"decoding would take about {wait_s:.1f} s and the deadline is in {left_s:.1f} s"
            retry_after_s = min(5.0, max(0.1, wait_s - PATIENCE * left_s))
            raise WouldBeLate(message, retry_after_s, "predicted_decoding")
        self._bytes_of[caller] += size
        try:
            yield
        finally:
            self._bytes_of[caller] -= size
            if not self._bytes_of[caller]:
                del self._bytes_of[caller]

    def _wait_s(self, caller: str, size: int) -> float:
        """Until the last of so many bytes more is decoded; other callers decode as many meanwhile."""
        own = self._bytes_of[caller] + size
        others = sum(min(held, own) for other, held in self._bytes_of.items() if other != caller)
        pace = self._seconds / self._decoded_bytes if self._decoded_bytes else 0.0
        return (own + others) * pace / self._thread_count

    async def _decoded(self, picture: _Picture) -> Row:
        self._line.add(picture)
        self._fill()
        try:
            return await picture.done
        finally:
            self._line.remove(picture)

    def _fill(self) -> None:
        """Hands pictures to the threads. One that is begun keeps its slot to its end, whoever leaves."""
        quick = self._seconds < _QUICK_S * self._pictures
        while self._begun < self._thread_count * (1 + quick) and (picture := self._line.pop()):
            self._begun += 1
            loop = asyncio.get_running_loop()
            begun = loop.run_in_executor(self._threads, self._timed, picture.image)
            begun.add_done_callback(partial(self._ended, picture))

    def _ended(self, picture: _Picture, begun: "asyncio.Future[tuple[Row, float]]") -> None:
        self._begun -= 1
        if begun.cancelled():  # the pool is closing
            picture.done.cancel()
            return
        row, seconds = begun.result()
        self._seconds = self._seconds * _FORGETTING + seconds
        self._decoded_bytes = self._decoded_bytes * _FORGETTING + _cost(picture.image)
        self._pictures = self._pictures * _FORGETTING + 1
        if not picture.done.done():
            picture.done.set_result(row)
        if not self._closed:
            self._fill()

    def _timed(self, image: bytes) -> tuple[Row, float]:
        began_s = time.monotonic()
        return self._try(image), time.monotonic() - began_s

    def _try(self, image: bytes) -> Row:
        try:
            return self._decode(image)
        except ImageError as error:
            return ItemFailure(grpc.StatusCode.INVALID_ARGUMENT, error.reason, error.message)
        except DecoderFailed as error:
            return ItemFailure(grpc.StatusCode.INTERNAL, error.reason, str(error))
        except Exception:
            log.exception("the decoder failed on an image of %d bytes", len(image))
            return ItemFailure(
                grpc.StatusCode.INTERNAL, "IMAGE_DECODER_FAILED", "the decoder failed on this image"
            )


def _cost(image: bytes) -> int:
    return len(image) + _BYTES_OF_A_START
