"""A real gateway process on a real queue; only the models are stand-ins."""

import os
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


@contextmanager
def gateway_process(folder: Path) -> Iterator[str]:
    """The address of a real gateway process; both workers are threads without a model."""
    checkpoint = write_tiny_checkpoint(folder / "tiny")
    with EmbeddedServer() as queue:
        model = ServedModel.load(GatewaySettings(model=str(checkpoint), redis_url=queue.url))
        workers = [FakeWorker(queue.url, model, tower) for tower in ("text", "vision")]
        process = subprocess.Popen(
            _command(checkpoint, queue.url, folder), cwd=ROOT, env=os.environ | SMALL_LIMITS
        )
        try:
            _until(lambda: (folder / "address").exists())
            found = (folder / "address").read_text()
            _until(lambda: _all_live(found))
            yield found
        finally:
            process.terminate()
            process.wait(20)
            for worker in workers:
                worker.stop()


def _command(checkpoint: Path, redis_url: str, folder: Path) -> list[str]:
    options = {
        "--model": checkpoint,
        "--redis-url": redis_url,
        "--listen": "127.0.0.1:0",
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
