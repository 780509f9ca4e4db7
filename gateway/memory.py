"""Keeps the process small: what was freed goes back to the system."""

import asyncio
import ctypes
import time

# Numbers of glibc's mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_MMAP_BYTES = 128 * 1024
_TRIM_BYTES = 256 * 1024


def return_freed_memory() -> None:
    """Fixes the C library's thresholds, which otherwise grow with the largest block that was ever freed.

    Blocks of pixels would then come from heaps that stay as large as their busiest moment. Elsewhere than
    on glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


class Trimmer:
    """Large messages are parsed into many small blocks, which leave heaps full of holes."""

    LARGE_BYTES = 1024 * 1024
    EVERY_S = 1.0

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._last_s = 0.0

    def after(self, message_bytes: int) -> None:
        """A call with such a message is ending; soon its objects are gone."""
        if self._trim and message_bytes > self.LARGE_BYTES and time.monotonic() - self._last_s > self.EVERY_S:
            self._last_s = time.monotonic()
            loop = asyncio.get_running_loop()
            # In a thread: with large heaps it takes a while.
            loop.call_later(self.EVERY_S, loop.run_in_executor, None, self._trim, 0)
