"""What stands in Redis, for the people who run it: reads only, and never a payload."""

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from redis.exceptions import RedisError, ResponseError

from broker import wire
from broker.connection import sync_client, unavailable
from broker.errors import BrokerError
from broker.jobs import JOB_CLASSES, JobClass, RedisUrls, Tower, Work, WorkerInfo
from broker.keys import GROUP, HEADER_FIELD, OLDEST_ID, Keys

TOWERS: tuple[Tower, ...] = get_args(Tower)
_KEY = re.compile(r"\{siglip:([^:}]+):0\}:(requests|replies|lease|dead):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServerView:
    """The Redis or Valkey server. `max_memory_bytes` 0: no limit."""

    name: str
    version: str
    memory_bytes: int
    max_memory_bytes: int
    policy: str
    round_trip_s: float
    clock_ahead_s: float
    """Of this machine's wall clock."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """Entries of one tower and class. `oldest_s`: since when the longest waiting one does."""

    job_class: JobClass
    waiting: int
    running: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class TowerView:
    tower: Tower
    streams: list[StreamView]
    workers: list[tuple[WorkerInfo, Work]]
    dead_letters: int


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model's queue. `names` are those that live workers serve it under."""

    tag: str
    names: list[str]
    gateways: int
    towers: list[TowerView]


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """An entry, or one row of it, that was given up. Its payload is gone."""

    letter_id: str
    """Tower, tag and the place in that tower's stream: no other letter has it."""
    tag: str
    tower: Tower
    time_s: float
    """Of the server's clock, since the epoch."""
    reason: str
    deliveries: int
    row: int | None
    entry_id: str
    gateway_id: str
    shape: list[int]


class QueueView:
    """Looks at one server. Every method raises BrokerUnavailable when it cannot."""

    def __init__(self, settings: RedisUrls) -> None:
        self._settings = settings
        self._client = sync_client(settings)

    def close(self) -> None:
        self._client.close()

    def server(self) -> ServerView:
        sent_s = time.time()
        seconds, micros = self._ask("TIME")
        received_s = time.time()
        info = {**self._info("server"), **self._info("memory")}
        is_valkey = "valkey_version" in info
        return ServerView(
            name="Valkey" if is_valkey else "Redis",
            version=str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
            memory_bytes=int(info.get("used_memory", 0)),
            max_memory_bytes=int(info.get("maxmemory", 0)),
            policy=str(info.get("maxmemory_policy", "unknown")),
            round_trip_s=received_s - sent_s,
            clock_ahead_s=seconds + micros / 1e6 - (sent_s + received_s) / 2,
        )

    def models(self) -> list[ModelView]:
        """Every model that has a gateway, a worker, a queue or dead letters."""
        names: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for key in self._keys():
            if found := _KEY.fullmatch(key.decode(errors="replace")):
                tag, kind, rest = found.groups()
                names[tag][kind].append(rest)
        return [self._model(tag, kinds) for tag, kinds in sorted(names.items())]

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Of every model, the newest of each tower first."""
        for model in self.models():
            for tower in TOWERS:
                for letter_id, fields in self._ask(
                    "XREVRANGE", Keys(model.tag).dead_letters(tower), "+", "-"
                ):
                    yield _letter(model.tag, tower, letter_id, fields)

    def drop(self, letters: list[DeadLetter]) -> int:
        """Deletes them; how many were still there."""
        return sum(
            self._ask("XDEL", Keys(each.tag).dead_letters(each.tower), each.letter_id.rpartition(":")[2])
            for each in letters
        )

    def _model(self, tag: str, kinds: dict[str, list[str]]) -> ModelView:
        leases = self._leases(tag, kinds["lease"])
        towers = [
            TowerView(
                tower,
                [self._stream(tag, tower, job_class) for job_class in JOB_CLASSES],
                [lease for lease in leases if lease[0].tower == tower],
                self._ask("XLEN", Keys(tag).dead_letters(tower)),
            )
            for tower in TOWERS
        ]
        served = sorted({info.model for info, _ in leases if info.model})
        return ModelView(tag, served, len(kinds["replies"]), towers)

    def _leases(self, tag: str, names: list[str]) -> list[tuple[WorkerInfo, Work]]:
        if not names:
            return []
        values = self._ask("MGET", *(f"{Keys(tag).prefix}:lease:{name}" for name in sorted(names)))
        return [lease for value in values if value and (lease := wire.unpack_lease(value))]

    def _stream(self, tag: str, tower: Tower, job_class: JobClass) -> StreamView:
        key = Keys(tag).requests(tower, job_class)
        held = self._ask("XLEN", key)
        running = int(self._ask("XPENDING", key, GROUP)["pending"]) if held else 0
        return StreamView(job_class, max(0, held - running), running, self._oldest_s(key) if held else 0.0)

    def _oldest_s(self, key: str) -> float:
        oldest = self._ask("EVAL_RO", OLDEST_ID, 1, key)
        if oldest is None:
            return 0.0
        seconds, micros = self._ask("TIME")
        added_s = int(oldest.partition(b"-")[0]) / 1000
        return float(max(0.0, seconds + micros / 1e6 - added_s))

    def _keys(self) -> Iterator[bytes]:
        try:
            yield from self._client.scan_iter(match="{siglip:*", count=1000)
        except (RedisError, OSError) as error:
            raise self._explained(error) from error

    def _info(self, section: str) -> dict[str, Any]:
        try:
            return dict(self._ask("INFO", section))
        except BrokerError:
            return {}

    def _ask(self, *command: Any) -> Any:
        try:
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if "NOGROUP" in str(error) or "no such key" in str(error):
                return {"pending": 0}
            raise self._explained(error) from error
        except (RedisError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> BrokerError:
        return unavailable(self._settings, error)


def _letter(tag: str, tower: Tower, letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    """Whatever lies there is shown: a header that is none of ours by empty fields."""
    try:
        header = wire.parse_header(fields.get(HEADER_FIELD, b""))
        gateway_id, shape = header.gateway_id, list(header.shape)
    except wire.InvalidEntry:
        gateway_id, shape = "", []
    row = fields.get(b"row", b"").decode(errors="replace")
    deliveries = fields.get(b"deliveries", b"").decode(errors="replace")
    return DeadLetter(
        letter_id=f"{tower}:{tag}:{letter_id.decode()}",
        tag=tag,
        tower=tower,
        time_s=int(letter_id.partition(b"-")[0]) / 1000,
        reason=fields.get(b"reason", b"").decode(errors="replace"),
        deliveries=int(deliveries) if deliveries.isdecimal() else 0,
        row=int(row) if row.isdecimal() else None,
        entry_id=fields.get(b"entry_id", b"").decode(errors="replace"),
        gateway_id=gateway_id,
        shape=shape,
    )
