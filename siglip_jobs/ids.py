"""Which ids were met already, in about 80 bytes of memory for each, however long they are."""

import hashlib
from collections.abc import Iterable

# Among a billion ids two are taken for one with a probability of 10**-11.
_BYTES = 12


class Ids:
    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._digests = set(map(digest, ids))

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, identity: str) -> bool:
        return digest(identity) in self._digests

    def add(self, identity: str) -> bool:
        """False for one that was there."""
        before = len(self._digests)
        self._digests.add(digest(identity))
        return len(self._digests) > before

    def discard(self, identity: str) -> None:
        self._digests.discard(digest(identity))


def digest(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=_BYTES).digest()
