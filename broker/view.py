"""What stands in Redis, for the people who run it: reads only, and never a payload."""

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any, get_args

import redis
from redis.exceptions import RedisError, ResponseError

from broker import wire
from broker.errors import BrokerError
from broker.jobs import JOB_CLASSES, JobClass, RedisUrls, Tower, Work, WorkerInfo
from broker.keys import GROUP, HEADER_FIELD, OLDEST_ID, Keys
from broker.servers import Servers
from broker.views import DeadLetter, ModelView, ServerView, StreamView, TowerView, together

TOWERS: tuple[Tower, ...] = get_args(Tower)
_KEY = re.compile(r"\{siglip:([^:}]+):(\d+)\}:(requests|replies|lease|dead):(.+)", re.DOTALL)


class QueueView:
    """Looks at one server, or at all of a cluster. Every method raises BrokerUnavailable when it cannot."""

    def __init__(self, settings: RedisUrls) -> None:
        self._all = Servers(settings)
        # A URL that cannot be used is told at once.
        self._all.of(Keys(""))

    def close(self) -> None:
        self._all.close()

    def servers(self) -> list[ServerView]:
        """The server, or each primary of a cluster."""
        return [self._server(address, client) for address, client in self._all.all().items()]

    def models(self) -> list[ModelView]:
        """Every model that has a gateway, a worker, a queue or dead letters."""
        shards = [self._model(keys, kinds) for keys, kinds in sorted(self._names().items(), key=_order)]
        return [together(list(same)) for _, same in groupby(shards, key=lambda shard: shard.tag)]

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Of every model, the newest of each shard and tower first."""
        for keys, _ in sorted(self._names().items(), key=_order):
            for tower in TOWERS:
                for letter_id, fields in self._ask(keys, "XREVRANGE", keys.dead_letters(tower), "+", "-"):
                    yield _letter(keys, tower, letter_id, fields)

    def drop(self, letters: list[DeadLetter]) -> int:
        """Deletes them; how many were still there."""
        dropped = 0
        for each in letters:
            keys = Keys(each.tag, each.shard)
            entry_id = each.letter_id.rpartition(":")[2]
            dropped += self._ask(keys, "XDEL", keys.dead_letters(each.tower), entry_id)
        return dropped

    def _server(self, address: str, client: redis.Redis) -> ServerView:
        sent_s = time.time()
        seconds, micros = self._say(client, "TIME")
        received_s = time.time()
        info = {**self._info(client, "server"), **self._info(client, "memory")}
        is_valkey = "valkey_version" in info
        return ServerView(
            name="Valkey" if is_valkey else "Redis",
            version=str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
            memory_bytes=int(info.get("used_memory", 0)),
            max_memory_bytes=int(info.get("maxmemory", 0)),
            policy=str(info.get("maxmemory_policy", "unknown")),
            round_trip_s=received_s - sent_s,
            clock_ahead_s=seconds + micros / 1e6 - (sent_s + received_s) / 2,
            address=address,
        )

    def _names(self) -> dict[Keys, dict[str, list[str]]]:
        """The ends of all keys, by shard and kind."""
        names: dict[Keys, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for client in self._all.all().values():
            for key in self._keys(client):
                if found := _KEY.fullmatch(key.decode(errors="replace")):
                    tag, shard, kind, rest = found.groups()
                    names[Keys(tag, int(shard))][kind].append(rest)
        return names

    def _model(self, keys: Keys, kinds: dict[str, list[str]]) -> ModelView:
        leases = self._leases(keys, kinds["lease"])
        towers = [
            TowerView(
                tower,
                [self._stream(keys, tower, job_class) for job_class in JOB_CLASSES],
                [lease for lease in leases if lease[0].tower == tower],
                self._ask(keys, "XLEN", keys.dead_letters(tower)),
            )
            for tower in TOWERS
        ]
        served = sorted({info.model for info, _ in leases if info.model})
        return ModelView(keys.tag, served, len(kinds["replies"]), towers)

    def _leases(self, keys: Keys, names: list[str]) -> list[tuple[WorkerInfo, Work]]:
        if not names:
            return []
        values = self._ask(keys, "MGET", *(f"{keys.prefix}:lease:{name}" for name in sorted(names)))
        return [lease for value in values if value and (lease := wire.unpack_lease(value))]

    def _stream(self, keys: Keys, tower: Tower, job_class: JobClass) -> StreamView:
        key = keys.requests(tower, job_class)
        held = self._ask(keys, "XLEN", key)
        running = int(self._ask(keys, "XPENDING", key, GROUP)["pending"]) if held else 0
        oldest_s = self._oldest_s(keys, key) if held else 0.0
        return StreamView(job_class, max(0, held - running), running, oldest_s)

    def _oldest_s(self, keys: Keys, key: str) -> float:
        oldest = self._ask(keys, "EVAL_RO", OLDEST_ID, 1, key)
        if oldest is None:
            return 0.0
        seconds, micros = self._ask(keys, "TIME")
        added_s = int(oldest.partition(b"-")[0]) / 1000
        return float(max(0.0, seconds + micros / 1e6 - added_s))

    def _keys(self, client: redis.Redis) -> Iterator[bytes]:
        try:
            yield from client.scan_iter(match="{siglip:*", count=1000)
        except (RedisError, OSError) as error:
            raise self._all.explained(error) from error

    def _info(self, client: redis.Redis, section: str) -> dict[str, Any]:
        try:
            return dict(self._say(client, "INFO", section))
        except BrokerError:
            return {}

    def _ask(self, keys: Keys, *command: Any) -> Any:
        return self._say(self._all.of(keys), *command)

    def _say(self, client: redis.Redis, *command: Any) -> Any:
        try:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if "NOGROUP" in str(error) or "no such key" in str(error):
                return {"pending": 0}
            raise self._all.explained(error) from error
        except (RedisError, OSError) as error:
            raise self._all.explained(error) from error


def _order(names: tuple[Keys, object]) -> tuple[str, int]:
    return names[0].tag, names[0].shard


def _letter(keys: Keys, tower: Tower, letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    """Whatever lies there is shown: a header that is none of ours by empty fields."""
    try:
        header = wire.parse_header(fields.get(HEADER_FIELD, b""))
        gateway_id, shape = header.gateway_id, list(header.shape)
    except wire.InvalidEntry:
        gateway_id, shape = "", []
    row = fields.get(b"row", b"").decode(errors="replace")
    deliveries = fields.get(b"deliveries", b"").decode(errors="replace")
    return DeadLetter(
        letter_id=f"{tower}:{keys.tag}:{keys.shard}:{letter_id.decode()}",
        tag=keys.tag,
        shard=keys.shard,
        tower=tower,
        time_s=int(letter_id.partition(b"-")[0]) / 1000,
        reason=fields.get(b"reason", b"").decode(errors="replace"),
        deliveries=int(deliveries) if deliveries.isdecimal() else 0,
        row=int(row) if row.isdecimal() else None,
        entry_id=fields.get(b"entry_id", b"").decode(errors="replace"),
        gateway_id=gateway_id,
        shape=shape,
    )
