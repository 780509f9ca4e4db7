"""Worker -> gateways: answers leave and entries end in one transaction."""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.exceptions import OutOfMemoryError, RedisError
from siglip.broker.v1 import job_pb2

from broker import wire
from broker.connection import reason_of
from broker.in_hand import Entry
from broker.jobs import Tower
from broker.keys import GROUP, HEADER_FIELD, REPLIES_FIELD, Keys

log = logging.getLogger(__name__)

DEAD_LETTERS_KEPT = 1000
DEAD_LETTER_TTL_S = 7 * 24 * 3600
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is kept of an entry, or of one row of it, that was given up."""

    entry: Entry
    header: bytes
    reason: str
    deliveries: int
    row: int | None = None


@dataclass(slots=True)
class Outgoing:
    """What one transaction carries."""

    replies: dict[str, list[job_pb2.JobReply]] = field(default_factory=lambda: defaultdict(list))
    ended: list[Entry] = field(default_factory=list)
    # Of the ended ones, those that ran row by row and left a mark.
    marked: list[Entry] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Outbox:
    """Sends until it has succeeded: answers wait while Redis is away, or takes nothing for a while."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        tower: Tower,
        stats: Counter[str],
        closing: threading.Event,
        progress: Callable[[], None],
    ) -> None:
        self._client = client
        self._keys = keys
        self._tower = tower
        self._stats = stats
        self._closing = closing
        self._progress = progress
        # Both the device thread and the reading thread send.
        self._lock = threading.Lock()

    def send(self, outgoing: Outgoing) -> None:
        """All of it, or with the server's memory full the ends first, and the replies when there is room."""
        retry_s, told = FIRST_RETRY_S, False
        while True:
            try:
                with self._lock:
                    self._send_once(outgoing)
                return
            except (RedisError, OSError) as error:
                if not told:
                    log.warning("answers wait for Redis: %s", reason_of(error))
                told = True
                # It is Redis that hangs, not the device.
                self._progress()
                if self._closing.wait(retry_s):
                    log.error("%d answers were not delivered: %s", len(outgoing.ended), reason_of(error))
                    return
                retry_s = min(LAST_RETRY_S, retry_s * 2)

    def existing(self, entries: list[Entry], consumer: str) -> set[Entry]:
        """Those that nobody has withdrawn; also shows that `consumer` still works on them."""
        with self._lock:
            return claim_existing(self._client, entries, consumer)

    def _send_once(self, outgoing: Outgoing) -> None:
        try:
            self._execute(outgoing, transaction=True)
        except OutOfMemoryError:
            # Replies need memory, and only ended entries free it.
            self._stats["out_of_memory"] += 1
            # A full server takes no command at all within a transaction.
            self._execute(Outgoing(ended=outgoing.ended, marked=outgoing.marked), transaction=False)
            outgoing.ended, outgoing.marked = [], []
            try:
                self._execute(outgoing, transaction=True)
            except OutOfMemoryError as error:
                raise redis.ConnectionError(reason_of(error)) from error

    def _execute(self, outgoing: Outgoing, *, transaction: bool) -> None:
        pipe = self._client.pipeline(transaction=transaction)
        for gateway_id, replies in outgoing.replies.items():
            value = wire.pack_replies(replies)
            # A gateway that is gone has no stream, and gets none.
            pipe.xadd(self._keys.replies(gateway_id), {REPLIES_FIELD: value}, nomkstream=True)
        for letter in outgoing.dead_letters:
            self._add_dead_letter(pipe, letter)
        for stream, ids in by_stream(outgoing.ended).items():
            pipe.xack(stream, GROUP, *ids)
            pipe.xdel(stream, *ids)
        if outgoing.marked:
            pipe.delete(*(self._keys.running_row(*entry) for entry in outgoing.marked))
        _check(list(outgoing.replies), pipe.execute(raise_on_error=False))

    def _add_dead_letter(self, pipe: "redis.client.Pipeline", letter: DeadLetter) -> None:
        stream, entry_id = letter.entry
        key = self._keys.dead_letters(self._tower)
        fields: dict[Any, Any] = {
            HEADER_FIELD: letter.header[: wire.MAX_HEADER_BYTES],
            "reason": letter.reason,
            "stream": stream,
            "entry_id": entry_id,
            "deliveries": letter.deliveries,
            "row": "" if letter.row is None else letter.row,
        }
        pipe.xadd(key, fields, maxlen=DEAD_LETTERS_KEPT, approximate=True)
        pipe.expire(key, DEAD_LETTER_TTL_S)


def _check(gateways: list[str], results: list[Any]) -> None:
    """`results` begin with those of the replies. Raises what was refused and may be taken later.

    A key that is no stream takes nothing, however long we wait.
    """
    for place, result in enumerate(results):
        if not isinstance(result, Exception):
            continue
        if not str(result).startswith("WRONGTYPE"):
            raise result
        what = (
            f"a reply to {gateways[place]}"
            if place < len(gateways)
            else "a dead letter or the end of an entry"
        )
        log.error("%s is dropped: %s", what, result)


def by_stream(entries: list[Entry]) -> dict[str, list[bytes]]:
    """Entry ids of each stream."""
    grouped: dict[str, list[bytes]] = defaultdict(list)
    for stream, entry_id in entries:
        grouped[stream].append(entry_id)
    return grouped


def claim_existing(client: redis.Redis, entries: list[Entry], consumer: str) -> set[Entry]:
    """Resets the idle time of entries this consumer holds; the withdrawn ones are missing in the result."""
    groups = by_stream(entries)
    pipe = client.pipeline(transaction=False)
    for stream, ids in groups.items():
        pipe.xclaim(stream, GROUP, consumer, 0, [*ids], justid=True)
    existing: set[Entry] = set()
    for stream, ids in zip(groups, pipe.execute(), strict=True):
        existing.update((stream, entry_id) for entry_id in ids)
    return existing
