"""A worker's tower gives what the model library gives offline."""

from pathlib import Path

import numpy as np
import pytest
import torch

from siglip_model.checkpoint import load_model
from siglip_model.image_processing import SiglipImageProcessor, normalize, rescale
from siglip_model.modeling import unit
from siglip_settings import WorkerSettings
from tests.support.checkpoints import write_tiny_checkpoint
from workers.device import choose
from workers.tower import ModelTower, Normalize, load

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def tower_of(folder: Path, name: str, **settings: object) -> ModelTower:
    worker = WorkerSettings(model=str(folder), tower=name, device="cpu", **settings)  # type: ignore[arg-type]
    return load(folder, worker.tower, choose(worker))


def random_ids(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 400, (rows, 64), dtype=np.int32)


def random_pixels(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8)


def test_text_vectors_are_those_of_the_library(folder: Path) -> None:
    vectors = tower_of(folder, "text").run(random_ids(5))
    with torch.inference_mode():
        offline = load_model(folder).get_text_features(torch.from_numpy(random_ids(5)).long())
    np.testing.assert_allclose(vectors.units, unit(offline).numpy(), atol=1e-6)
    np.testing.assert_allclose(vectors.norms, offline.norm(dim=-1).numpy(), rtol=1e-6)


def test_image_vectors_are_those_of_the_library(folder: Path) -> None:
    pixels = random_pixels(5)
    vectors = tower_of(folder, "vision").run(pixels)
    values = normalize(rescale(pixels, 1 / 255), 0.5, 0.5)
    with torch.inference_mode():
        offline = load_model(folder).get_image_features(torch.from_numpy(values))
    np.testing.assert_allclose(vectors.units, unit(offline).numpy(), atol=1e-6)
    np.testing.assert_allclose(vectors.norms, offline.norm(dim=-1).numpy(), rtol=1e-6)


@pytest.mark.parametrize(("name", "rows"), [("text", random_ids(9)), ("vision", random_pixels(9))])
def test_a_row_has_one_vector_whatever_its_batch(folder: Path, name: str, rows: np.ndarray) -> None:
    tower = tower_of(folder, name)
    alone = np.concatenate([tower.run(rows[i : i + 1]).units for i in range(9)])
    np.testing.assert_allclose(tower.run(rows).units, alone, atol=1e-6)


def test_only_the_own_tower_is_in_memory(folder: Path) -> None:
    assert {name.partition(".")[0] for name, _ in tower_of(folder, "text").model.named_parameters()} == {
        "text_model"
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_points_the_same_way(folder: Path, dtype: str) -> None:
    exact = tower_of(folder, "vision").run(random_pixels(4)).units
    half = tower_of(folder, "vision", dtype=dtype).run(random_pixels(4))
    assert half.units.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half.units, axis=1), 1, atol=1e-6)
    assert (half.units * exact).sum(axis=1).min() > 0.999


def test_token_ids_outside_the_table_are_refused(folder: Path) -> None:
    tower = tower_of(folder, "text")
    ids = random_ids(2)
    ids[1, 7] = 400
    with pytest.raises(ValueError, match="allowed: 0 to 399"):
        tower.run(ids)
    with pytest.raises(ValueError, match="token ids -1 to"):
        tower.run(np.full((1, 64), -1, np.int32))


def test_usual_pixels_are_bit_for_bit_the_library_s() -> None:
    every_value = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (1, 3, 1, 1))
    expected = normalize(rescale(every_value, 1 / 255), 0.5, 0.5)
    got = Normalize(SiglipImageProcessor(), CPU)(torch.from_numpy(every_value))
    np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": (0.48, 0.45, 0.40), "image_std": (0.26, 0.27, 0.28)},
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
    ],
)
def test_other_pixel_settings_are_honoured(settings: dict[str, object]) -> None:
    processor = SiglipImageProcessor(**settings)  # type: ignore[arg-type]
    pixels = random_pixels(2)
    expected = rescale(pixels, processor.rescale_factor) if processor.do_rescale else pixels
    if processor.do_normalize:
        expected = normalize(expected, processor.image_mean, processor.image_std)
    got = Normalize(processor, CPU)(torch.from_numpy(pixels))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6, rtol=1e-6)
