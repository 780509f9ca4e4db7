"""A whole service of real processes: embedded Valkey, gateway and workers, as `siglip` starts them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from siglip.v1 import model_pb2, model_pb2_grpc

from broker import EmbeddedServer, model_tag
from siglip_cli.probe import read_address, serves
from siglip_model.fingerprint import fingerprint
from tests.support.valkey import left_overs, wait_until

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 100.0

Process = subprocess.Popen[bytes]


@dataclass
class System:
    valkey: EmbeddedServer
    checkpoint: Path
    folder: Path
    """For the logs and the gateway's address."""
    processes: list[Process] = field(default_factory=list)
    workers: dict[str, list[Process]] = field(default_factory=lambda: {"text": [], "vision": []})

    @property
    def address(self) -> str:
        address = read_address(self.folder / "address")
        assert address
        return address

    def start_gateway(self) -> Process:
        address_file = str(self.folder / "address")
        # On a busy machine stopped workers may be missed for long.
        patience = ("--no-worker-timeout-s", "60")
        return self._start("gateway", "--listen", "127.0.0.1:0", "--address-file", address_file, *patience)

    def start_worker(self, tower: str) -> Process:
        worker = self._start("worker", "--tower", tower, "--threads", "1", "--max-batch-rows", "8")
        self.workers[tower].append(worker)
        return worker

    def wait_until_serving(self) -> None:
        wait_until(lambda: read_address(self.folder / "address"), START_TIMEOUT_S)
        wait_until(lambda: serves(self.address), START_TIMEOUT_S)

    def wait_for_workers(self, tower: str, count: int) -> None:
        """Until the gateway knows exactly so many live ones."""
        wait_until(lambda: self._live_workers(tower) == count, START_TIMEOUT_S)

    def entries(self) -> int:
        """Requests in the queue, waiting or in work."""
        return sum(entries for entries, _ in self.left_overs().values())

    def left_overs(self) -> dict[str, tuple[int, int]]:
        """Request streams that are not empty: entries, and those of them in work."""
        tag = model_tag(self.checkpoint.name, fingerprint(self.checkpoint))
        found = left_overs(self.valkey.url, tag)
        return {key: value for key, value in found.items() if isinstance(value, tuple)}

    def log_of(self, process: Process) -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()

    def _start(self, command: str, *arguments: str) -> Process:
        words = [sys.executable, "-m", "siglip_cli", command, "--model", str(self.checkpoint), *arguments]
        # Nothing is remembered: the same pictures have to go all the way each time.
        environ = os.environ | {"SIGLIP_REDIS_URL": self.valkey.url, "SIGLIP_CACHE_BYTES": "0"}
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            # Its standard input is a pipe of ours, so that it ends with us.
            process = subprocess.Popen(
                [*words, "--end-with-stdin"], env=environ, cwd=ROOT, stdin=subprocess.PIPE, stderr=log
            )
        self.processes.append(process)
        return process

    def _live_workers(self, tower: str) -> int:
        with grpc.insecure_channel(self.address) as channel:
            model = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(), timeout=10)
        status: model_pb2.TowerStatus = getattr(model, f"{tower}_tower")
        return status.live_workers


@contextmanager
def system(checkpoint: Path, folder: Path) -> Iterator[System]:
    """Starts with the queue alone; every process ends with the block."""
    with EmbeddedServer() as valkey:
        found = System(valkey, checkpoint, folder)
        try:
            yield found
        finally:
            for process in found.processes:
                process.kill()
                process.communicate()
