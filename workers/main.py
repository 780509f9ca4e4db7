"""Starts a worker: settings in, exit status out."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from broker import WorkerEnd, WorkerTiming
from siglip_metrics import ALL, Page, PageError, new_registry
from siglip_model.files import resolve
from siglip_settings import WorkerSettings
from workers import tower as model_tower
from workers import traces
from workers.batch import Tower
from workers.calibrate import calibrate, warm_up
from workers.compute import Computer
from workers.connect import connect
from workers.device import Compute, apply_threads, choose
from workers.errors import SetupError
from workers.metrics import Metrics, StateCollector
from workers.serve import serve
from workers.turns import turn
from workers.verify import verify

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

log = logging.getLogger(__name__)


def run(settings: WorkerSettings) -> int:
    """Serves until SIGTERM or SIGINT. Exit status: 0 stopped, 1 broke and others have its work.

    Raises SetupError or CheckpointError when it cannot work as it is configured. A Redis that is away is
    waited for.
    """
    spans, compute = traces.start(settings), choose(settings)
    folder = resolve(settings.model, revision=settings.revision, cache_dir=settings.cache_dir).folder
    broker = connect(
        settings, folder, device=str(compute.device), dtype=compute.dtype_name, attention=compute.attention
    )
    tower, max_rows = load(settings, folder, compute)
    verify(folder, settings.tower, tower, compute.dtype_name)
    log.info(
        "%s tower on %s, %s, %s attention, %d threads, at most %d rows a batch",
        settings.tower,
        compute.device,
        compute.dtype_name,
        compute.attention,
        compute.threads,
        max_rows,
    )
    info = broker.info
    registry = new_registry(process=f"{info.tower} worker", model=info.model, fingerprint=info.fingerprint)
    registry.register(StateCollector(broker, compute.device))
    with _page(settings, registry, broker), _sent(spans):
        computer = Computer(tower, max_rows, broker.progress)
        # What is here now stays: the collector need not go through it again while callers wait.
        gc.collect()
        gc.freeze()
        return serve(broker, computer, Metrics(registry), settings.drain_timeout_s, spans)


@contextmanager
def _page(settings: WorkerSettings, registry: CollectorRegistry, broker: WorkerEnd) -> Iterator[None]:
    if settings.metrics_listen is None:
        yield
        return
    try:
        page = Page(settings.metrics_listen, registry, lambda: {ALL: is_ready(broker)})
    except PageError as error:
        raise SetupError(str(error)) from error
    log.info("metrics are on port %d", page.port)
    try:
        yield
    finally:
        page.close()


def is_ready(broker: WorkerEnd) -> bool:
    """Whether gateways count on this worker: its lease, which they look for, has not run out."""
    return broker.connected and broker.lease_age_s < WorkerTiming().lease_s


@contextmanager
def _sent(spans: "Traces | None") -> Iterator[None]:
    try:
        yield
    finally:
        if spans:
            spans.close()


def load(settings: WorkerSettings, folder: Path, compute: Compute) -> tuple[Tower, int]:
    """The tower, warm, and how many rows it takes at once."""
    apply_threads(compute.threads)
    tower = model_tower.load(folder, settings.tower, compute)
    if not settings.max_batch_rows:
        with turn():
            return tower, calibrate(tower)
    try:
        warm_up(tower, settings.max_batch_rows)
    except MemoryError as error:
        raise SetupError(f"--max-batch-rows is {settings.max_batch_rows}: {error}") from error
    return tower, settings.max_batch_rows
