"""A real gateway process on a real queue; only the models are stand-ins."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from broker import EmbeddedServer
from gateway.served import ServedModel
from siglip_client import Client
from siglip_settings import GatewaySettings
from tests.gateway.rig import FakeWorker
from tests.support.checkpoints import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
SMALL_LIMITS = {"SIGLIP_MAX_IMAGE_BYTES": "100000", "SIGLIP_MAX_TEXT_BYTES": "1000"}


class GatewayProcess:
    """A real gateway process that can be killed and started again at its address."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command, self._address_file = command, folder / "address"
        self.address = "127.0.0.1:0"
        self.process = self._started()

    def start(self) -> None:
        self.process = self._started()

    def end(self, number: int) -> None:
        """By a signal; waits until it is gone."""
        self.process.send_signal(number)
        self.process.wait(20)

    def _started(self) -> subprocess.Popen[bytes]:
        self._address_file.unlink(missing_ok=True)
        command = [*self._command, "--listen", self.address]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | SMALL_LIMITS)
        _until(self._address_file.exists)
        self.address = self._address_file.read_text()
        return process


@contextmanager
def gateway_process(folder: Path) -> Iterator[str]:
    """The address of a real gateway process; both workers are threads without a model."""
    with mortal_gateway(folder) as gateway:
        yield gateway.address


@contextmanager
def mortal_gateway(folder: Path) -> Iterator[GatewayProcess]:
    """As above, to be ended at will."""
    checkpoint = write_tiny_checkpoint(folder / "tiny")
    with EmbeddedServer() as queue:
        model = ServedModel.load(GatewaySettings(model=str(checkpoint), redis_url=queue.url))
        workers = [FakeWorker(queue.url, model, tower) for tower in ("text", "vision")]
        gateway = GatewayProcess(_command(checkpoint, queue.url, folder), folder)
        try:
            _until(lambda: _all_live(gateway.address))
            yield gateway
        finally:
            gateway.end(signal.SIGTERM)
            for worker in workers:
                worker.stop()


def _command(checkpoint: Path, redis_url: str, folder: Path) -> list[str]:
    options = {
        "--model": checkpoint,
        "--redis-url": redis_url,
        "--address-file": folder / "address",
        "--log-level": "warning",
    }
    return [
        sys.executable,
        "-m",
        "siglip_cli",
        "gateway",
        *(str(word) for pair in options.items() for word in pair),
    ]


def _all_live(address: str) -> bool:
    with Client(address) as client:
        model = client.get_model()
    return model.text_tower.live_workers == model.vision_tower.live_workers == 1


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the gateway did not become ready"
        time.sleep(0.02)
