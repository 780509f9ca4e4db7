"""What embedding gives: for each item a vector or a failure, and where the time went."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from broker import Row
from gateway.errors import ItemFailure

Item: TypeAlias = Row | ItemFailure


@dataclass(frozen=True, slots=True)
class Embedded:
    """One item for each text or image, in their order, and where the time went (microseconds)."""

    items: list[Item]
    decode_us: int = 0
    queue_us: int = 0
    compute_us: int = 0

    def rows(self) -> list[Row]:
        return [item for item in self.items if isinstance(item, Row)]

    def failures(self) -> Iterable[tuple[int, ItemFailure]]:
        return ((i, item) for i, item in enumerate(self.items) if isinstance(item, ItemFailure))


def with_failures(given: Sequence[bytes | ItemFailure], embedded: Embedded, decode_us: int) -> Embedded:
    """`embedded` has an item for each of `given` that is bytes; the others keep their failures."""
    items = iter(embedded.items)
    filled = [next(items) if isinstance(each, bytes) else each for each in given]
    return Embedded(filled, decode_us, embedded.queue_us, embedded.compute_us)
