"""Keeps the process small: freed pictures go back to the system at once."""

import ctypes

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
