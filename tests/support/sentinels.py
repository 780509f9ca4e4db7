"""A primary, its replicas, and three Sentinels that watch them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.node import Node
from tests.support.valkey import left_overs, wait_until

NAME = "queue"
DOWN_AFTER_MS = 1000


@dataclass
class Watched:
    servers: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        return "redis://" + ",".join(node.address for node in self.sentinels)

    def primary(self) -> Node:
        """As the Sentinels see it."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(node for node in self.servers if node.port == int(port))

    def left_overs(self, tag: str) -> dict[str, object]:
        return left_overs(f"redis://{self.primary().address}", tag)


@contextmanager
def sentinels(folder: Path, replicas: int = 1, *options: str) -> Iterator[Watched]:
    """`options` are given to the servers."""
    with ExitStack() as stack:

        def started(*arguments: str, sentinel: str | None = None) -> Node:
            node = Node(folder, *arguments, sentinel=sentinel)
            stack.callback(node.stop)
            return node

        primary = started(*options)
        others = [started(*options, "--replicaof", f"127.0.0.1 {primary.port}") for _ in range(replicas)]
        watched = "\n".join(
            [
                f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 2",
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {NAME} 3000",
            ]
        )
        made = Watched([primary, *others], [started(sentinel=watched) for _ in range(3)])
        wait_until(lambda: all(replica.ask("ROLE")[3] == b"connected" for replica in others))
        wait_until(lambda: all(_knows_the_others(node, replicas) for node in made.sentinels))
        yield made


def _knows_the_others(sentinel: Node, replicas: int) -> bool:
    """Without the others nobody decides, and without replicas there is nobody to promote."""
    found = sentinel.ask("SENTINEL", "MASTER", NAME)
    known = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return int(known[b"num-other-sentinels"]) == 2 and int(known[b"num-slaves"]) == replicas
