"""A worker that computes something else than its checkpoint says does not begin."""

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from siglip_cli.main import run
from siglip_model import SiglipTextConfig, SiglipVisionConfig
from siglip_model.files import CheckpointError
from siglip_model.golden import FILE, distance, read_golden, text_row, vision_row, write_golden
from siglip_model.golden_vectors import golden_vectors
from siglip_settings import WorkerSettings
from tests.support.checkpoints import write_tiny_checkpoint
from workers import tower as model_tower
from workers.device import choose
from workers.errors import SetupError
from workers.verify import verify

Tower = Literal["text", "vision"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("golden") / "tiny")
    write_golden(folder, golden_vectors(folder))
    return folder


def tower_of(folder: Path, name: Tower, dtype: Any = "float32") -> Any:
    compute = choose(WorkerSettings(model=str(folder), tower=name, device="cpu", dtype=dtype))
    return model_tower.load(folder, name, compute)


@pytest.mark.parametrize("name", ["text", "vision"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_right_model_passes(golden: Path, name: Tower, dtype: str) -> None:
    verify(golden, name, tower_of(golden, name, dtype), dtype)


@pytest.mark.parametrize("name", ["text", "vision"])
def test_other_weights_are_refused(golden: Path, tmp_path: Path, name: Tower) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", seed=5)
    shutil.copy(golden / FILE, other)
    with pytest.raises(
        SetupError, match=f"the {name} tower gives a wrong vector: 1 - cosine to .* is [0-9.]+"
    ):
        verify(other, name, tower_of(other, name), "float32")


def test_a_slightly_wrong_computation_is_refused(golden: Path) -> None:
    """The exact GELU in place of its approximation, say."""
    tower = tower_of(golden, "vision")
    for module in tower.model.modules():
        if hasattr(module, "activation") or hasattr(module, "act"):
            name = "activation" if hasattr(module, "activation") else "act"
            setattr(module, name, torch.nn.ReLU())
    with pytest.raises(SetupError, match="wrong vector"):
        verify(golden, "vision", tower, "float32")


def test_a_checkpoint_without_vectors_passes(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "plain")
    verify(folder, "text", tower_of(folder, "text"), "float32")


def test_rows_are_valid_inputs_and_vary() -> None:
    ids = text_row(SiglipTextConfig(vocab_size=300, max_position_embeddings=16))
    assert ids.shape == (16,) and ids.min() >= 0 and ids.max() < 300 and len(set(ids.tolist())) == 16
    pixels = vision_row(SiglipVisionConfig(image_size=32))
    assert pixels.shape == (3, 32, 32) and pixels.min() < 5 and pixels.max() > 250
    assert len({channel.tobytes() for channel in pixels}) == 3


@pytest.mark.parametrize("text", ["{}", '{"text": [], "vision": 1}', '{"text": ["a"], "vision": [1.0]}', "["])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=FILE):
        read_golden(tmp_path)


def test_the_command(capsys: pytest.CaptureFixture[str], golden: Path, tmp_path: Path) -> None:
    assert run(["verify", "checkpoints/shapes"]) == 0
    assert capsys.readouterr().out.count("ok") == 2
    plain = write_tiny_checkpoint(tmp_path / "plain", seed=9)
    assert run(["verify", str(plain)]) == 2
    assert "has no golden_vectors.json" in capsys.readouterr().err
    shutil.copy(golden / FILE, plain)
    assert run(["verify", str(plain)]) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 2
    assert run(["verify", "--write", str(plain)]) == 0
    assert run(["verify", str(plain)]) == 0


def test_a_worker_refuses_to_serve(capsys: pytest.CaptureFixture[str], golden: Path, tmp_path: Path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", seed=5)
    shutil.copy(golden / FILE, other)
    assert (
        run(["worker", "--tower", "text", "--model", str(other), "--redis-url", f"unix://{tmp_path}/none"])
        == 2
    )
    assert "the text tower gives a wrong vector" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["text", "vision"])
def test_a_row_s_vector_does_not_depend_on_its_batch(golden: Path, name: Tower) -> None:
    """Alone, at any place of any batch, beside any neighbours: within 1e-6 in float32."""
    tower = tower_of(golden, name)
    draw = np.random.default_rng(0)
    high = 300 if name == "text" else 256
    rows = draw.integers(0, high, (33, *tower.row_shape)).astype(tower.dtype)
    alone = np.concatenate([tower.run(row[None]).units for row in rows])
    for size in (2, 3, 8, 32, 33):
        for first in range(0, 33 - size + 1, 7):
            together = tower.run(rows[first : first + size]).units
            np.testing.assert_allclose(together, alone[first : first + size], rtol=0, atol=1e-6)
    shuffled = draw.permutation(33)
    np.testing.assert_allclose(tower.run(rows[shuffled]).units, alone[shuffled], rtol=0, atol=1e-6)
    assert max(distance(a, b) for a, b in zip(alone, tower.run(rows).units, strict=True)) < 1e-6
