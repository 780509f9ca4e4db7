"""The same rule over real processes: from no worker to several, to none, and again, under calls."""

import asyncio
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import redis

from benchmarks.autoscaling.keda import Autoscaler, Rule
from broker import EmbeddedServer, model_tag
from broker.keys import Keys
from siglip_client import AsyncClient, SiglipError
from siglip_model.fingerprint import fingerprint
from tests.faults.fleet import Part
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.slow_model import slow_worker
from tests.support.valkey import free_port, wait_until

ROWS, BATCH_S = 8, 0.2
# Minutes are seconds here.
RULE = Rule(
    entries_per_worker=8,
    max_replicas=6,
    polling_interval_s=1.0,
    cooldown_s=6.0,
    sync_s=1.0,
    stabilization_s=6.0,
    down_share=0.5,
    down_period_s=1.0,
)
# Seconds, and calls a second meanwhile.
PHASES = ((3, 0), (10, 20), (15, 150), (12, 30), (14, 0), (12, 60), (16, 0))
LOOK_EVERY_S = 0.2
DEADLINE_S = 40.0
YEAR_S = 365 * 24 * 3600


@dataclass
class Run:
    sent: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    replicas: list[tuple[float, int]] = field(default_factory=list)
    entries: list[tuple[float, int]] = field(default_factory=list)
    offered: list[tuple[float, float]] = field(default_factory=list)

    @property
    def slept(self) -> int:
        """How often the last worker went, after there had been some."""
        counts = [count for _, count in self.replicas]
        return sum(before > 0 and after == 0 for before, after in pairwise(counts))


class Workers:
    """As many processes as are wanted; those that go finish what they hold."""

    def __init__(self, model: Path, queue_url: str) -> None:
        self._model, self._queue_url = model, queue_url
        self._stack = ExitStack()
        self._current: list[subprocess.Popen[bytes]] = []

    @property
    def replicas(self) -> int:
        return len(self._current)

    def set(self, replicas: int) -> None:
        while len(self._current) > replicas:
            self._current.pop().send_signal(signal.SIGTERM)
        while len(self._current) < replicas:
            worker = slow_worker("text", self._model, self._queue_url, batch_s=BATCH_S, max_batch_rows=ROWS)
            self._current.append(self._stack.enter_context(worker))

    def close(self) -> None:
        self._stack.close()


def run() -> Run:
    with tempfile.TemporaryDirectory(prefix="siglip-autoscaling-") as folder, EmbeddedServer() as queue:
        model = write_tiny_checkpoint(Path(folder) / "tiny")
        address = f"127.0.0.1:{free_port()}"
        gateway = _gateway(address, model, queue.url, Path(folder) / "log")
        workers = Workers(model, queue.url)
        gateway.start()
        try:
            wait_until(lambda: _listens(address), 60)
            return asyncio.run(_drive(address, workers, queue.url, _stream(model)))
        finally:
            workers.close()
            gateway.end(signal.SIGTERM)


def _gateway(address: str, model: Path, queue_url: str, log: Path) -> Part:
    arguments = ["gateway", "--towers", "text", "--listen", address, "--log-level", "warning"]
    environ = {
        "SIGLIP_REDIS_URL": queue_url,
        "SIGLIP_MODEL": str(model),
        # No canary keeps a worker awake, and calls wait for the first one.
        "SIGLIP_CANARY_INTERVAL_S": "0",
        "SIGLIP_NO_WORKER_TIMEOUT_S": str(YEAR_S),
    }
    return Part("gateway", arguments, environ, log)


def _listens(address: str) -> bool:
    """It need not be ready: nobody computes yet."""
    host, _, port = address.rpartition(":")
    with closing(socket.socket()) as asking:
        return asking.connect_ex((host, int(port))) == 0


def _stream(model: Path) -> str:
    return Keys(model_tag(model.name, fingerprint(model))).requests("text", "interactive")


async def _drive(address: str, workers: Workers, queue_url: str, stream: str) -> Run:
    run = Run()
    async with AsyncClient(address, timeout_s=DEADLINE_S) as client:
        scaling = asyncio.create_task(_scale(run, workers, queue_url, stream))
        await _offer(run, client)
        scaling.cancel()
        await asyncio.gather(scaling, return_exceptions=True)
    return run


async def _scale(run: Run, workers: Workers, queue_url: str, stream: str) -> None:
    scaler, begun_s = Autoscaler(RULE), time.monotonic()
    with redis.Redis.from_url(queue_url) as connection:
        while True:
            now_s, entries = time.monotonic() - begun_s, int(connection.xlen(stream))
            workers.set(scaler.replicas(now_s, entries, workers.replicas))
            run.entries.append((now_s, entries))
            run.replicas.append((now_s, workers.replicas))
            await asyncio.sleep(LOOK_EVERY_S)


async def _offer(run: Run, client: AsyncClient) -> None:
    draw, calls = random.Random(0), set[asyncio.Task[None]]()
    begun_s = phase_s = time.monotonic()
    for seconds, per_s in PHASES:
        run.offered += [(phase_s - begun_s, per_s), (phase_s + seconds - begun_s, per_s)]
        next_s, phase_s = phase_s, phase_s + seconds
        while per_s and (next_s := next_s + draw.expovariate(per_s)) < phase_s:
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            calls.add(asyncio.create_task(_one(run, client, f"text {draw.random()}")))
        await asyncio.sleep(max(0.0, phase_s - time.monotonic()))
    await asyncio.gather(*calls)


async def _one(run: Run, client: AsyncClient, text: str) -> None:
    run.sent += 1
    try:
        await client.embed_texts([text])
    except SiglipError as error:
        run.errors[error.code.name] += 1
    else:
        run.answered += 1
