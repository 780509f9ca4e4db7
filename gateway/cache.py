"""What was computed lately, by the digest of its content; bounded by bytes, the oldest use goes first."""

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")

# Of an entry beside what its value holds: measured for a vector, its objects and the table's place.
ENTRY_BYTES = 400


class Cache(Generic[Value]):
    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Value | None:
        """A hit is the entry's newest use."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, value: Value, size: int) -> None:
        """`size` is what the value holds in bytes. What is larger than the whole is not kept."""
        self.drop(key)
        size += ENTRY_BYTES
        if size > self.max_bytes:
            return
        self._entries[key] = value, size
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed

    def drop(self, key: bytes) -> None:
        if entry := self._entries.pop(key, None):
            self.bytes -= entry[1]
