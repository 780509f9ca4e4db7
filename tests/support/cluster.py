"""A Redis Cluster of real servers: three primaries with a third of the slots each, and their replicas."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from broker.keys import Keys
from tests.support.node import Node
from tests.support.valkey import free_port, left_overs, wait_until

PRIMARIES = 3
NODE_TIMEOUT_MS = 1000


@dataclass
class Cluster:
    nodes: list[Node]

    @property
    def url(self) -> str:
        return "redis://" + ",".join(node.address for node in self.nodes)

    def owner(self, slot: int) -> Node:
        """The primary of a slot, as a node sees it that is alive and well."""
        ports = [
            primary[1]
            for living in [node for node in self.nodes if node.answers() and _is_ok(node)][:1]
            for first, last, primary, *_ in living.ask("CLUSTER", "SLOTS")
            if first <= slot <= last
        ]
        assert ports, f"nobody has slot {slot} now"
        return next(node for node in self.nodes if node.port == ports[0])

    def owner_of(self, tag: str, shard: int = 0) -> Node:
        return self.owner(slot_of(tag, shard))

    def nodes_of(self, tag: str, shard: int = 0) -> list[Node]:
        """The primary of these keys and its replica."""
        primary = self.owner_of(tag, shard)
        replicas = [node for node in self.nodes if node.role() == "slave"]
        return [primary, *(node for node in replicas if node.ask("ROLE")[2] == primary.port)]

    def has_left(self, node: Node, tag: str) -> bool:
        """Whether another one has the slot of these keys; False too while the cluster is down."""
        try:
            return self.owner_of(tag) is not node
        except AssertionError:
            return False

    def other_primary(self, node: Node) -> Node:
        return next(each for each in self.primaries() if each is not node)

    def primaries(self) -> list[Node]:
        return [node for node in self.nodes if node.role() == "master"]

    def is_well(self) -> bool:
        """All slots served, all replicas up to date, and every living node says so."""
        living = [node for node in self.nodes if node.answers()]
        return all(_is_ok(node) and _linked(node) for node in living)

    def start_moving(self, slot: int, target: Node) -> Node:
        """The first step: the slot's keys may be at either node. Returns the node that has it."""
        source = self.owner(slot)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))
        return source

    def move_keys(self, slot: int, source: Node, target: Node) -> None:
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_moving(self, slot: int, source: Node, target: Node) -> None:
        """Keys made meanwhile are moved too."""
        self.move_keys(slot, source, target)
        for node in (target, source, *self.primaries()):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", _id(target))

    def left_overs(self, tag: str) -> dict[str, object]:
        """What all nodes together still hold of a model."""
        found: dict[str, object] = {}
        for node in self.primaries():
            found |= left_overs(f"redis://{node.address}", tag)
        return found


def slot_of(tag: str, shard: int = 0) -> int:
    return key_slot(Keys(tag, shard).prefix.encode())


def _id(node: Node) -> str:
    return str(node.ask("CLUSTER", "MYID").decode())


def _is_ok(node: Node) -> bool:
    return b"cluster_state:ok" in node.ask("CLUSTER", "INFO")


def _linked(node: Node) -> bool:
    role = node.ask("ROLE")
    return bool(role[0] == b"master" or role[3] == b"connected")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        nodes = []
        for _ in range(2 * PRIMARIES):
            nodes.append(_node(folder))
            stack.callback(nodes[-1].stop)
        _join(nodes)
        made = Cluster(nodes)
        wait_until(made.is_well, 30)
        yield made


def _node(folder: Path) -> Node:
    return Node(
        folder, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
        "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-port", str(free_port()),
    )  # fmt: skip


def _join(nodes: list[Node]) -> None:
    primaries, replicas = nodes[:PRIMARIES], nodes[PRIMARIES:]
    for number, node in enumerate(nodes):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, node in enumerate(primaries):
        first, end = (n * REDIS_CLUSTER_HASH_SLOTS // PRIMARIES for n in (number, number + 1))
        node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    for node in nodes[1:]:
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, _bus_port(node))
    wait_until(lambda: all(len(_known(node)) == len(nodes) for node in nodes))
    for primary, replica in zip(primaries, replicas, strict=True):
        wait_until(lambda to=primary, of=replica: _replicates(of, to))


def _replicates(replica: Node, primary: Node) -> bool:
    """False while it does not know the primary by its name yet."""
    try:
        return bool(replica.ask("CLUSTER", "REPLICATE", _id(primary)))
    except redis.ResponseError:
        return False


def _known(node: Node) -> list[bytes]:
    return [line for line in node.ask("CLUSTER", "NODES").splitlines() if b"handshake" not in line]


def _bus_port(node: Node) -> int:
    return int(node.ask("CONFIG", "GET", "cluster-port")[1])
