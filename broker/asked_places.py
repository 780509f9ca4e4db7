"""Places that others are asked for: Sentinels, or the nodes of a cluster."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

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

from broker.places import Address, Place

Found = TypeVar("Found")


class WrongServer(redis.ConnectionError):
    """Who was asked is neither a Sentinel nor a node of a cluster, as the settings say."""


class Dial(Protocol):
    """Makes a connection to a node, not yet connected; without login as somebody whom it does not know."""

    def __call__(self, node: Address, *, login: bool = True) -> Connection: ...


class AskedPlace(Place):
    """Nodes are asked, one after the other."""

    def __init__(self, nodes: Iterable[Address], dial: Dial) -> None:
        super().__init__()
        self._nodes = deque(nodes)
        self._dial = dial

    def find(self) -> Address:
        """As the first node says that answers; raises what the last one did when none does."""
        return self._first(self._ask)

    def _first(self, ask: Callable[[Address], Found]) -> Found:
        """Each time another node is asked first: one that answers may be wrong."""
        with self._lock:
            self._nodes.rotate(-1)
            nodes = list(self._nodes)
        last: Exception = redis.ConnectionError("no node is known")
        for node in nodes:
            try:
                return ask(node)
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
        except AuthenticationError as refusal:
            # Many Sentinels know no passwords though their servers do.
            try:
                return self._question(node, *question, login=False)
            except AuthenticationError:
                raise refusal from None


class ClusterPlace(AskedPlace):
    """The primary that has the slot of a key."""

    def __init__(self, seeds: Iterable[Address], dial: Dial, key: str) -> None:
        self._seeds = list(seeds)
        super().__init__(self._seeds, dial)
        self._slot = key_slot(key.encode())
        self.proof = ("XLEN", key)

    def primaries(self) -> list[Address]:
        """Of the whole cluster. Raises as `find`."""
        return sorted(set(self._first(self._owners).values()))

    def judge(self, reply: object) -> None:
        moving = isinstance(reply, AskError) and not isinstance(reply, MovedError)
        if isinstance(reply, NoPermissionError):
            raise reply
        if isinstance(reply, BaseException) and not moving:
            raise redis.ConnectionError(f"the cluster is changing: {reply}")

    def _ask(self, node: Address) -> Address:
        for slots, primary in self._owners(node).items():
            if self._slot in slots:
                return primary
        raise redis.ConnectionError(f"nobody in the cluster has slot {self._slot}")

    def _owners(self, node: Address) -> dict[range, Address]:
        try:
            table = self._question(node, "CLUSTER", "SLOTS")
        except NoPermissionError:
            raise
        except ResponseError as error:
            raise WrongServer(f"{node} is no node of a cluster: {error}") from None
        owners = {range(first, last + 1): _address(primary, node) for first, last, primary, *_ in table}
        self._learn({*owners.values(), *self._seeds})
        return owners

    def _learn(self, nodes: set[Address]) -> None:
        """Those that have left are not asked any more."""
        with self._lock:
            known = [node for node in self._nodes if node in nodes]
            self._nodes = deque([*known, *sorted(nodes.difference(known))])


def _address(node: Any, asked: Address) -> Address:
    """A node that does not know its own name gives none: it is where we have found it."""
    return Address(node[0].decode() if node[0] else asked.host, int(node[1]))
