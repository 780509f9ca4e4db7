"""The queue: server, permissions, workers, what waits and what was given up."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing

from broker import BrokerError, ModelView, Permission, QueueView, Role, ServerView, TowerView
from broker.connection import IN_CLUSTER, check_server
from broker.errors import UnusableSettings
from siglip_cli.doctor.findings import Finding
from siglip_cli.doctor.permissions import check_permissions, denied_by_role, may_be
from siglip_settings import RedisSettings, Tower

FULL = 0.99
FILLING = 0.6  # of the server's memory: a gateway refuses work above it
LATE_S = 10.0
SLOW_S = 0.1
CLOCK_S = 5.0
LOGIN = "correct user or password in --redis-url (SIGLIP_REDIS_URL)"
CERTIFICATE = "renew or correct the certificate, there or here (--redis-ca-file, --redis-cert-file)"
# By what the error says.
REMEDIES = {
    "is no node of a cluster": "drop --redis-cluster on (SIGLIP_REDIS_CLUSTER), or name a cluster's nodes",
    IN_CLUSTER: "SIGLIP_REDIS_CLUSTER=on, for gateways and workers too",
    "is no Sentinel": "drop --redis-sentinel-name (SIGLIP_REDIS_SENTINEL_NAME), or name Sentinels in the URL",
    "knows no primary": "correct --redis-sentinel-name (SIGLIP_REDIS_SENTINEL_NAME)",
    "username-password": LOGIN,
    "Authentication required": LOGIN,
    "DB index": "correct the database's number in --redis-url (SIGLIP_REDIS_URL)",
    "certificate": CERTIFICATE,
    "unknown ca": CERTIFICATE,
}


def check_queue(
    settings: RedisSettings, role: Role | None, local: Mapping[str, str], towers: Collection[Tower]
) -> Iterator[Finding]:
    """Of the models that should be served here, by `towers`: `local` are the fingerprints by name."""
    try:
        denied = denied_by_role(settings)
        yield check_permissions(denied, role)
        with closing(QueueView(settings)) as view:
            # A scaler sees nothing of the server.
            if Permission("time") not in denied["operator"] and may_be(denied) != ["scaler"]:
                for server in view.servers():
                    yield from check_server_view(server)
            if "operator" not in may_be(denied):
                yield Finding("skipped", "workers", "only an operator's user sees workers and what waits")
                return
            models = view.models()
    except BrokerError as error:
        yield Finding("problem", "queue", str(error), _remedy(error))
        return
    yield from check_shards(settings.redis_shards, models)
    for name, fingerprint in local.items():
        if fingerprint:
            yield from _workers_of(name, fingerprint, towers, models)
    for model in models:
        for tower in model.towers:
            yield from check_tower(model, tower)


def _remedy(error: BrokerError) -> str:
    if isinstance(error, UnusableSettings):
        return "correct it, or --redis-url (SIGLIP_REDIS_URL)"
    found = (remedy for sign, remedy in REMEDIES.items() if sign in str(error))
    return next(found, "start the server, or correct --redis-url (SIGLIP_REDIS_URL)")


def check_shards(ours: int, models: list[ModelView]) -> Iterator[Finding]:
    """Silent where nothing was said: one shard is the default, also of this command."""
    for model in models:
        if ours > 1 and model.gateways and model.shards != ours:
            text = f"--redis-shards is {ours} here, but this queue has {model.shards}"
            remedy = "give gateways and workers that start from here the same as the others"
            yield Finding("warning", f"{', '.join(model.names) or model.tag} shards", text, remedy)


def check_server_view(server: ServerView) -> Iterator[Finding]:
    at = f" at {server.address}" if server.address else ""
    named = f"{server.name} {server.version}{at}"
    info = {f"{server.name.lower()}_version": server.version, "maxmemory_policy": server.policy}
    try:
        check_server({} if server.version == "unknown" else info)
    except BrokerError as error:
        yield Finding("problem", "queue", str(error), "gateways and workers refuse this server")
    else:
        yield Finding("ok", "queue", f"{named} answers in {server.round_trip_s * 1000:.1f} ms")
    if server.round_trip_s > SLOW_S:
        text = f"{named} takes {server.round_trip_s * 1000:.0f} ms for one answer"
        yield Finding("warning", "queue", text, "every call waits for some: look at network and load")
    yield _memory(server)
    if abs(server.clock_ahead_s) > CLOCK_S:
        text = f"the server's clock is {server.clock_ahead_s:+.1f} s off this machine's"
        yield Finding("warning", "clocks", text, "deadlines do not mind, but logs will not match: check NTP")
    else:
        yield Finding("ok", "clocks", f"{server.clock_ahead_s * 1000:+.0f} ms apart")


def _memory(server: ServerView) -> Finding:
    used = f"{server.memory_bytes >> 20:,} MiB"
    if not server.max_memory_bytes:
        remedy = "set maxmemory, so that a flood is refused before the machine is out of memory"
        return Finding("warning", "memory", f"{used} used, no maxmemory", remedy)
    text = f"{used} of {server.max_memory_bytes >> 20:,} MiB used"
    if server.memory_bytes > FULL * server.max_memory_bytes:
        return Finding("problem", "memory", text, "calls are refused now: add workers or memory")
    if server.memory_bytes > FILLING * server.max_memory_bytes:
        return Finding("warning", "memory", text, "calls are refused soon: add workers or memory")
    return Finding("ok", "memory", text)


def _workers_of(
    name: str, fingerprint: str, towers: Collection[Tower], models: list[ModelView]
) -> Iterator[Finding]:
    """Why a gateway of this model would find no worker."""
    leases = [info for model in models for tower in model.towers for info, _ in tower.workers]
    ours = [info for info in leases if (info.model, info.fingerprint) == (name, fingerprint)]
    for tower in towers:
        count = sum(info.tower == tower for info in ours)
        if count:
            yield Finding("ok", f"{tower} workers", f"{count} live for {name!r}")
            continue
        others = {info.fingerprint for info in leases if info.tower == tower and info.model == name}
        renamed = {info.model for info in leases if info.tower == tower and info.fingerprint == fingerprint}
        if others:
            found = ", ".join(sorted(others))
            text = f"none live with these weights; those of {name!r} have the fingerprint {found}"
            remedy = f"start workers and gateways with the same files (here: {fingerprint})"
        elif renamed:
            text = f"none live under the name {name!r}, but under {', '.join(map(repr, sorted(renamed)))}"
            remedy = "give gateways and workers the same --model-name"
        else:
            text, remedy = f"none live for {name!r}", f"start one: siglip worker --tower {tower} ..."
        yield Finding("problem", f"{tower} workers", text, remedy)


def check_tower(model: ModelView, tower: TowerView) -> Iterator[Finding]:
    name = f"{', '.join(model.names) or model.tag} {tower.tower}"
    for stream in tower.streams:
        if stream.oldest_s > LATE_S:
            text = f"{stream.waiting:,} entries wait, the oldest for {stream.oldest_s:.0f} s"
            remedy = (
                "workers are too few or stuck: see 'siglip top'" if tower.workers else "no worker is live"
            )
            yield Finding("warning", f"{name} {stream.job_class}", text, remedy)
    if tower.unserved:
        text = f"no {tower.tower} worker serves {tower.unserved} of {model.shards} shards"
        remedy = "start gateways and workers with the same --redis-shards"
        yield Finding("problem", f"{', '.join(model.names) or model.tag} shards", text, remedy)
    if tower.dead_letters:
        text = f"{tower.dead_letters:,} entries were given up because workers died on them"
        yield Finding("warning", name, text, "see 'siglip dead-letter list'")
