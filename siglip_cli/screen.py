"""`siglip top`'s picture: two looks at the queue become lines of text."""

from collections.abc import Iterator
from dataclasses import dataclass

from broker import ModelView, ServerView, TowerView, Work, WorkerInfo
from siglip_cli.output import bar, one_line

MIB = 1024 * 1024
_LOAD_CELLS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """The queue at one moment (seconds of a monotonic clock)."""

    time_s: float
    servers: list[ServerView]
    models: list[ModelView]


def picture(now: Look, before: Look | None) -> list[str]:
    """Rates are those between the two looks; without an earlier one they are left out."""
    lines = [*map(_server_line, now.servers), ""]
    for model in now.models:
        lines += [*_model_lines(model, now, before), ""]
    return lines if now.models else [*lines, "no model is served through this queue"]


def _server_line(server: ServerView) -> str:
    at = f" at {server.address}" if server.address else ""
    limit = f" of {server.max_memory_bytes / MIB:,.0f}" if server.max_memory_bytes else ""
    return (
        f"{server.name} {server.version}{at}   memory {server.memory_bytes / MIB:,.1f}{limit} MiB   "
        f"answers in {server.round_trip_s * 1000:.1f} ms"
    )


def _model_lines(model: ModelView, now: Look, before: Look | None) -> Iterator[str]:
    name = ", ".join(map(one_line, model.names)) or "(no live worker)"
    shards = f"   {_count(model.shards, 'shard')}" if model.shards > 1 else ""
    yield f"{name}   queue {model.tag}{shards}   {_count(model.gateways, 'gateway')}"
    for tower in model.towers:
        yield from _tower_lines(tower, now, before)


def _tower_lines(tower: TowerView, now: Look, before: Look | None) -> Iterator[str]:
    rates = {info.worker_id: _rate(info, work, now, before) for info, work in tower.workers}
    known = [rate for rate in rates.values() if rate]
    total = f"   {sum(rate.rows_per_s for rate in known):,.1f} rows/s" if known else ""
    dead = f"   {_count(tower.dead_letters, 'dead letter')}" if tower.dead_letters else ""
    yield f"  {tower.tower:6}  {_count(len(tower.workers), 'worker')}{total}{dead}"
    for stream in tower.streams:
        if stream.waiting or stream.running or stream.job_class == "interactive":
            oldest = f"   oldest {stream.oldest_s:.1f} s" if stream.waiting + stream.running else ""
            yield f"    {stream.job_class:11} {stream.waiting:6,} waiting {stream.running:6,} in work{oldest}"
    for info, _ in sorted(tower.workers, key=lambda lease: (lease[0].host, lease[0].pid)):
        yield f"    {_worker_name(info):36} {_rate_text(rates[info.worker_id])}"


@dataclass(frozen=True, slots=True)
class Rate:
    rows_per_s: float
    rows_per_batch: float
    busy: float
    """Share of the time that the device computes."""
    wait_ms: float
    """Of an entry until it is computed, on average."""
    batch_ms: float


def _rate(info: WorkerInfo, work: Work, now: Look, before: Look | None) -> Rate | None:
    earlier = _work_of(info, before) if before else None
    if before is None or earlier is None or now.time_s <= before.time_s:
        return None
    span_s = now.time_s - before.time_s
    rows, batches, entries = (
        getattr(work, name) - getattr(earlier, name) for name in ("rows", "batches", "entries")
    )
    compute_ms, wait_ms = (
        (work.compute_us - earlier.compute_us) / 1e3,
        (work.wait_us - earlier.wait_us) / 1e3,
    )
    return Rate(
        rows_per_s=rows / span_s,
        rows_per_batch=rows / max(1, batches),
        busy=min(1.0, compute_ms / 1e3 / span_s),
        wait_ms=wait_ms / max(1, entries),
        batch_ms=compute_ms / max(1, batches),
    )


def _work_of(info: WorkerInfo, look: Look) -> Work | None:
    workers = (lease for model in look.models for tower in model.towers for lease in tower.workers)
    return next((work for each, work in workers if each.worker_id == info.worker_id), None)


def _rate_text(rate: Rate | None) -> str:
    if rate is None:
        return ""
    filled = bar(rate.busy, _LOAD_CELLS)
    return (
        f"{rate.rows_per_s:9,.1f} rows/s  wait {rate.wait_ms:7,.1f} ms  "
        f"batch {rate.rows_per_batch:5.1f} in {rate.batch_ms:7,.1f} ms  busy {rate.busy:4.0%} {filled}"
    ).rstrip()


def _worker_name(info: WorkerInfo) -> str:
    place = f"{info.host}:{info.pid}" if info.host else info.worker_id[:12]
    return one_line(f"{place}  {info.device} {info.dtype}")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"
