"""Turns signals into something a plain loop can wait for."""

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Counts requests to stop; `wait` returns early at any of them and when a child ends."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._stop)
        # Python writes to the wakeup socket only for signals that have a Python handler.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _ignore)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def wait(self, timeout_s: float) -> None:
        """Returns after `timeout_s`, or at the next signal."""
        if select.select([self._reader], [], [], max(0.0, timeout_s))[0]:
            self._reader.recv(4096)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


def _ignore(number: int, frame: FrameType | None) -> None:
    pass
