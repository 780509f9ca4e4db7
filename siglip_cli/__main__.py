"""Where the command starts."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    if os.getpid() == 1:
        _end_on_signals()
    # Imported here: it takes a while, and Ctrl-C in that while is no error either.
    try:
        from siglip_cli import main as command

        command.main()
    except KeyboardInterrupt:
        print("siglip: interrupted", file=sys.stderr)
        sys.exit(130)


def _end_on_signals() -> None:
    """The first process of a container: the kernel drops signals that it has no handler for.

    Whoever stops it while it loads a model would wait until the time of grace is over and it is killed.
    Commands that finish their work first put handlers of their own in place.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # Not sys.exit: a library that is in the middle of something might catch it.
    os._exit(128 + number)


if __name__ == "__main__":
    main()
