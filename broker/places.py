"""Where a queue is: who answers for its keys right now."""

import threading
from typing import NamedTuple


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Place:
    """Says which server answers for a queue. Shared by the connections of one gateway or worker.

    A connection asks `find`, sends `proof` to whom it has found and gives the reply to `judge`; when that has
    passed, it calls `settle`. When one of them settles elsewhere, the others have to leave where they are.
    """

    proof: tuple[str, ...] = ("TIME",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Where the queue is, as far as anybody has seen.
        self.address: Address | None = None
        # How often it was found elsewhere than before: what came last before that may be lost.
        self.moves = 0

    def find(self) -> Address:
        """Raises ConnectionError, or what else keeps us from knowing."""
        raise NotImplementedError

    def judge(self, reply: object) -> None:
        """ConnectionError when who sent this reply, or raised it, does not answer for the queue."""

    def settle(self, address: Address) -> None:
        """The server there has proved that it is the one."""
        with self._lock:
            if self.address not in (None, address):
                self.moves += 1
            self.address = address


class FixedPlace(Place):
    """One server of several, whatever it answers for."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._only = address

    def find(self) -> Address:
        return self._only
