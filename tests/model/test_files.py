"""Folders, safetensors headers, the two scalars and the fingerprint: all without torch."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from siglip_model import SiglipModel
from siglip_model.files import (
    CheckpointError,
    check_names,
    read_image_config,
    read_scalars,
    require,
    resolve,
    stored_tensors,
)
from siglip_model.fingerprint import fingerprint
from siglip_model.image_processing import SiglipImageProcessor
from siglip_model.saving import save
from tests.support.checkpoints import LOGIT_BIAS, LOGIT_SCALE, write_tiny_checkpoint


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "copy")


def test_a_folder_is_taken_as_it_is(tiny: Path) -> None:
    assert resolve(tiny).folder == tiny
    assert resolve(str(tiny)).revision == ""


def test_a_file_is_refused(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        resolve(tiny / "config.json")


@pytest.mark.parametrize("name", ["no/such/folder", "./missing", "/tmp/none/at/all", "a b", ""])
def test_neither_folder_nor_hub_id(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        resolve(name or "   ")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks a\.json, b\.json$"):
        require(tmp_path, "a.json", "b.json")


def test_scalars_of_one_file(tiny: Path) -> None:
    scale, bias = read_scalars(tiny)
    assert scale == pytest.approx(float(np.exp(np.float64(np.float32(LOGIT_SCALE)))), rel=1e-12)
    assert bias == float(np.float32(LOGIT_BIAS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scalars_of_every_type(tiny: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    values = {
        "logit_scale": torch.tensor([LOGIT_SCALE]).to(dtype),
        "logit_bias": torch.tensor(LOGIT_BIAS).to(dtype),
    }
    save_torch(values, tmp_path / "model.safetensors")
    scale, bias = read_scalars(tmp_path)
    assert scale == pytest.approx(float(values["logit_scale"].double().exp()), rel=1e-12)
    assert bias == float(values["logit_bias"])


def test_scalars_of_shards(tiny: Path, tmp_path: Path) -> None:
    save(SiglipModel.from_pretrained(tiny), tmp_path, max_shard_bytes=50_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    assert read_scalars(tmp_path) == read_scalars(tiny)


def test_scalars_of_a_tower_alone(tmp_path: Path) -> None:
    save_file({"text_model.head.bias": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no logit_scale and no logit_bias: it is not a whole SigLIP"):
        read_scalars(tmp_path)


def test_a_tensor_of_neither_tower_is_refused(tmp_path: Path) -> None:
    tensors = {"classifier.weight": np.zeros(3, np.float32), "text_model.head.bias": np.zeros(3, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensors of another model, 1: classifier\.weight"):
        check_names(tmp_path)


def test_headers_agree_with_the_library(tiny: Path) -> None:
    ours, theirs = stored_tensors(tiny), load_file(tiny / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tensor.shape
        assert b"".join(ours[name].chunks(max_bytes=1000)) == tensor.tobytes()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", struct.pack("<Q", 10**12), struct.pack("<Q", 4) + b"[1]x", struct.pack("<Q", 2) + b"[]"],
)
def test_a_damaged_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        stored_tensors(tmp_path)


def test_a_safetensors_file_that_ends_early(copy: Path) -> None:
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(CheckpointError, match="the file is truncated"):
        read_scalars(copy)


def write_header(folder: Path, data: bytes = b"", **entries: object) -> None:
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)


def entry(dtype: str, shape: object, start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (entry("F32", [1], 0, 0), "holds a scalar of type F32 in 0 bytes"),
        (entry("F32", [1], 0, 3), "holds a scalar of type F32 in 3 bytes"),
        (entry("BF16", [1], 0, 4), "holds a scalar of type BF16 in 4 bytes"),
        (entry("F32", "ab", 0, 4), "logit_scale has the shape 'ab'"),
        (entry("F32", [-1, -1], 0, 4), r"logit_scale has the shape \[-1, -1\]"),
        (entry("F32", None, 0, 4), "logit_scale has the shape None"),
    ],
)
def test_a_header_that_does_not_add_up(tmp_path: Path, scale: dict[str, object], message: str) -> None:
    write_header(tmp_path, bytes(8), logit_scale=scale, logit_bias=entry("F32", [1], 4, 8))
    with pytest.raises(CheckpointError, match=message):
        read_scalars(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("logit_scale", value) for value in (1000.0, 81.0, np.nan, np.inf, -np.inf)]
    + [("logit_bias", value) for value in (np.nan, np.inf, -np.inf)],
)
def test_scalars_that_give_no_probability_are_refused(tmp_path: Path, name: str, value: float) -> None:
    scalars = {"logit_scale": LOGIT_SCALE, "logit_bias": LOGIT_BIAS} | {name: value}
    save_file(
        {key: np.array([number], np.float32) for key, number in scalars.items()},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=rf"{name} is {value:g}, allowed are -"):
        read_scalars(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_json_without_end(copy: Path, name: str) -> None:
    (copy / name).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=rf"{name} is not JSON"):
        fingerprint(copy)


def test_a_header_without_end(tmp_path: Path) -> None:
    header = b"[" * 100_000
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        stored_tensors(tmp_path)


def test_an_image_processor_that_is_no_object(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text('{"image_processor": [1]}')
    with pytest.raises(CheckpointError, match="image_processor must be an object"):
        read_image_config(copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_std", [0, 0, 0]),
        ("image_std", 0),
        ("image_mean", [0.5, 0.5]),
        ("image_mean", "half"),
        ("image_mean", [0.5, float("nan"), 0.5]),
        ("rescale_factor", "1/255"),
        ("resample", 99),
    ],
)
def test_numbers_that_no_image_can_be_prepared_with(copy: Path, name: str, value: object) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(CheckpointError, match=f"{name} is "):
        SiglipImageProcessor.from_pretrained(copy)


def test_empty_files_are_named(copy: Path) -> None:
    (copy / "spiece.model").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has empty files: spiece\.model$"):
        require(copy, "config.json", "spiece.model")


def test_what_nobody_foresaw_is_one_line(copy: Path) -> None:
    """A tensor's name that no UTF-8 can hold."""
    write_header(copy, **{"\ud800": entry("F32", [0], 0, 0)})
    with pytest.raises(CheckpointError, match="holds no usable model: UnicodeEncodeError: ") as told:
        fingerprint(copy)
    assert "\n" not in str(told.value)


def test_missing_weights_and_pickles(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"lacks model\.safetensors; pytorch_model\.bin is a pickle"):
        read_scalars(copy)


def test_a_missing_shard_and_an_index_that_points_outside(copy: Path) -> None:
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"logit_scale": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"lacks model-00001-of-00002\.safetensors"):
        read_scalars(copy)
    index.write_text(json.dumps({"weight_map": {"logit_scale": "../secret.safetensors"}}))
    with pytest.raises(CheckpointError, match="files outside its folder"):
        read_scalars(copy)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="no weight_map"):
        read_scalars(copy)


def test_the_fingerprint_of_equal_content_is_equal(tiny: Path, copy: Path, tmp_path: Path) -> None:
    print_ = fingerprint(tiny)
    assert len(print_) == 64
    assert fingerprint(copy) == print_
    for path in copy.glob("*.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(dict(sorted(values.items())), indent=7))
    assert fingerprint(copy) == print_
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(values | {"transformers_version": "5", "dtype": "float32"}))
    assert fingerprint(copy) == print_
    save(SiglipModel.from_pretrained(tiny), tmp_path / "shards", max_shard_bytes=50_000)
    for path in (*copy.glob("model*"), tmp_path / "shards" / "config.json"):
        path.unlink()
    shutil.copytree(tmp_path / "shards", copy, dirs_exist_ok=True)
    assert fingerprint(copy) == print_


def change_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.head.probe"][0, 0, 0] += 1e-3
    save_file(weights, folder / "model.safetensors")


def change_name(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["a"] = weights.pop("logit_bias")
    save_file(weights, folder / "model.safetensors")


def change_vocabulary(folder: Path) -> None:
    with (folder / "spiece.model").open("ab") as file:
        file.write(b"\0")


def change_json(name: str, **values: object) -> object:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_weight,
        change_name,
        change_vocabulary,
        change_json("config.json", text_config={"hidden_size": 32}),
        change_json("preprocessor_config.json", resample=2),
        change_json("preprocessor_config.json", image_mean=[0.5, 0.5, 0.4]),
        change_json("tokenizer_config.json", do_lower_case=False),
    ],
)
def test_whatever_changes_a_vector_changes_the_fingerprint(tiny: Path, copy: Path, change: object) -> None:
    change(copy)  # type: ignore[operator]
    assert fingerprint(copy) != fingerprint(tiny)


def test_our_own_preprocessing_counts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(tiny)
    monkeypatch.setattr("siglip_model.fingerprint.PREPROCESSING_VERSION", 99)
    assert fingerprint(tiny) != before


def test_other_seeds_are_other_models(tiny: Path, tmp_path: Path) -> None:
    assert fingerprint(write_tiny_checkpoint(tmp_path, seed=1)) != fingerprint(tiny)
