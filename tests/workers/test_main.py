"""A worker that cannot work as it is configured says why, before it takes anything."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from broker import EmbeddedServer
from siglip_model.files import CheckpointError
from siglip_settings import WorkerSettings
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.queue_worker import QueueWorker
from tests.support.valkey import looking, wait_until
from workers.errors import SetupError
from workers.main import is_ready, run


def settings(checkpoint: Path, url: str, **changed: object) -> WorkerSettings:
    given = {"model": str(checkpoint), "tower": "text", "redis_url": url, "device": "cpu", "threads": 1}
    return WorkerSettings(**(given | changed))  # type: ignore[arg-type]


def test_an_unusable_url(checkpoint: Path) -> None:
    with pytest.raises(SetupError, match="http://localhost"):
        run(settings(checkpoint, "http://localhost"))


def test_a_device_that_is_not_there(checkpoint: Path) -> None:
    with pytest.raises(SetupError, match="'cuda:9'"):
        run(settings(checkpoint, "unix:///nowhere", device="cuda:9"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent"):
        run(settings(tmp_path / "absent", "unix:///nowhere"))


def test_a_checkpoint_that_lacks_a_tensor(tmp_path: Path) -> None:
    name = "text_model.final_layer_norm.bias"
    weights = load_file(write_tiny_checkpoint(tmp_path) / "model.safetensors")
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=name):
        run(settings(tmp_path, "unix:///nowhere"))


def test_a_worker_without_a_lease_is_not_ready(valkey: EmbeddedServer) -> None:
    """The queue is there, but full: gateways know of no worker."""
    with QueueWorker(valkey.url, "t") as first:
        wait_until(lambda: first.broker.connected)
    late = QueueWorker(valkey.url, "t")
    with looking(valkey.url) as queue:
        queue.config_set("maxmemory", 1)
        late.broker.take(1, 0.01)
        assert late.broker.connected and not is_ready(late.broker)
        queue.config_set("maxmemory", 0)
        wait_until(lambda: is_ready(late.broker))
    late.broker.close()


def test_a_vision_tower_without_image_vectors(tmp_path: Path) -> None:
    weights = load_file(write_tiny_checkpoint(tmp_path) / "model.safetensors")
    headless = {name: value for name, value in weights.items() if "vision_model.head" not in name}
    save_file(headless, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["vision_use_head"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SetupError, match="vision_use_head is off"):
        run(settings(tmp_path, "unix:///nowhere", tower="vision"))
