"""Who answers for a queue right now, where that may change: behind Sentinels, and in a cluster."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import redis
from redis.connection import Connection
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)


class WrongServer(redis.ConnectionError):
    """Who was asked is neither a Sentinel nor a node of a cluster, as the settings say."""


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Dial(Protocol):
    """Makes a connection to a node, not yet connected; without login as somebody whom it does not know."""

    def __call__(self, node: Address, *, login: bool = True) -> Connection: ...


class Place:
    """Says which server answers for a queue. Shared by the connections of one gateway or worker.

    A connection asks `find`, sends `proof` to whom it has found and gives the reply to `judge`; when that has
    passed, it calls `settle`. When one of them settles elsewhere, the others have to leave where they are.
    """

    proof: tuple[str, ...] = ("PING",)

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


class AskedPlace(Place):
    """Nodes are asked, one after the other."""

    def __init__(self, nodes: Iterable[Address], dial: Dial) -> None:
        super().__init__()
        self._nodes = deque(nodes)
        self._dial = dial

    def find(self) -> Address:
        """Each time another node is asked first; the last one's error when none knows."""
        with self._lock:
            self._nodes.rotate(-1)
            nodes = list(self._nodes)
        last: Exception = redis.ConnectionError("no node is known")
        for node in nodes:
            try:
                return self._ask(node)
            except (RedisError, OSError) as error:
                last = error
        raise last

    def _ask(self, node: Address) -> Address:
        raise NotImplementedError

    def _question(self, node: Address, *command: str, login: bool = True) -> Any:
        connection: Any = self._dial(node, login=login)
        try:
            connection.connect()
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()


class SentinelPlace(AskedPlace):
    """The primary that Sentinels know by a name."""

    proof = ("ROLE",)

    def __init__(self, sentinels: Iterable[Address], dial: Dial, name: str) -> None:
        super().__init__(sentinels, dial)
        self._name = name

    def judge(self, reply: object) -> None:
        if isinstance(reply, BaseException):
            raise reply
        if not isinstance(reply, list) or reply[0] != b"master":
            raise redis.ConnectionError(f"no primary yet where Sentinels see {self._name!r}")

    def _ask(self, node: Address) -> Address:
        try:
            found = self._ask_for_primary(node)
        except NoPermissionError:
            raise
        except ResponseError as error:
            raise WrongServer(f"{node} is no Sentinel: {error}") from None
        if not found:
            raise redis.ConnectionError(f"the Sentinel at {node} knows no primary named {self._name!r}")
        host, port = found
        return Address(host.decode(), int(port))

    def _ask_for_primary(self, node: Address) -> Any:
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        try:
            return self._question(node, *question)
        except AuthenticationError:
            # Many Sentinels know no passwords though their servers do.
            return self._question(node, *question, login=False)


class ClusterPlace(AskedPlace):
    """The primary that has the slot of a key."""

    def __init__(self, seeds: Iterable[Address], dial: Dial, key: str) -> None:
        super().__init__(seeds, dial)
        self._slot = key_slot(key.encode())
        self._owners: dict[range, Address] = {}
        self.proof = ("XLEN", key)

    def judge(self, reply: object) -> None:
        moving = isinstance(reply, AskError) and not isinstance(reply, MovedError)
        if isinstance(reply, NoPermissionError):
            raise reply
        if isinstance(reply, BaseException) and not moving:
            raise redis.ConnectionError(f"the cluster is changing: {reply}")

    def primaries(self) -> list[Address]:
        """Of the whole cluster. Raises as `find`."""
        self.find()
        return sorted(set(self._owners.values()))

    def _ask(self, node: Address) -> Address:
        self._owners = _owners(self._table(node), node)
        self._learn(self._owners.values())
        for slots, primary in self._owners.items():
            if self._slot in slots:
                return primary
        raise redis.ConnectionError(f"nobody in the cluster has slot {self._slot}")

    def _table(self, node: Address) -> Any:
        try:
            return self._question(node, "CLUSTER", "SLOTS")
        except NoPermissionError:
            raise
        except ResponseError as error:
            raise WrongServer(f"{node} is no node of a cluster: {error}") from None

    def _learn(self, nodes: Iterable[Address]) -> None:
        with self._lock:
            self._nodes.extend(node for node in dict.fromkeys(nodes) if node not in self._nodes)


def _owners(table: Any, asked: Address) -> dict[range, Address]:
    """Which primary has which slots, from the reply of CLUSTER SLOTS; `asked` is who sent it."""
    return {range(first, last + 1): _address(primary, asked) for first, last, primary, *_ in table}


def _address(node: Any, asked: Address) -> Address:
    """A node that does not know its own name gives none: it is where we have found it."""
    return Address(node[0].decode() if node[0] else asked.host, int(node[1]))
