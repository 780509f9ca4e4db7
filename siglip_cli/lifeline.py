"""Ends a child when its parent is gone, however the parent ended.

The parent holds the write end of a pipe whose read end is the child's standard input. The kernel closes
the write end when the parent dies, even by SIGKILL, and the child then reads the end of the file.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDIN = 0


@contextmanager
def lifeline() -> Iterator[int]:
    """The parent's side: yields what children must have as their standard input."""
    # Python makes both ends non-inheritable, so no child holds the write end itself.
    read_end, write_end = os.pipe()
    try:
        yield read_end
    finally:
        os.close(write_end)
        os.close(read_end)


def end_with_stdin() -> None:
    """The child's side: ends this process at once when standard input ends."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    while os.read(STDIN, 1):
        pass
    # Not sys.exit: nobody is left to drain for, and this is not the main thread.
    os._exit(1)
