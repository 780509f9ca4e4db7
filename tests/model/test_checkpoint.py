"""Weights in files: one or many, nothing missing, nothing left over, only what is asked for."""

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch
from torch import nn

from siglip_model import (
    CheckpointError,
    SiglipModel,
    SiglipTextModel,
    SiglipVisionModel,
    load_model,
    load_tower,
    weights,
)
from siglip_model.saving import save

pytestmark = pytest.mark.parity(row="Checkpoints", against="what was saved")

WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "copy")


def change(folder: Path, remove: tuple[str, ...] = (), **add: object) -> None:
    weights = {name: value for name, value in load_file(folder / WEIGHTS).items() if name not in remove}
    save_file(weights | add, folder / WEIGHTS)  # type: ignore[operator]


def equal(left: nn.Module, right: nn.Module) -> bool:
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_every_number_of_the_file_is_in_the_model(tiny: Path) -> None:
    model = load_model(tiny)
    state, stored = model.state_dict(), load_file(tiny / WEIGHTS)
    assert len(stored) == 104
    assert state.keys() == stored.keys()
    for name, values in stored.items():
        assert torch.equal(state[name], torch.from_numpy(values)), name
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_round_trip_is_exact_and_twice_the_same(tiny: Path, tmp_path: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    model.save_pretrained(tmp_path / "one")
    again = SiglipModel.from_pretrained(tmp_path / "one")
    assert equal(again, model)
    again.save_pretrained(tmp_path / "two")
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / WEIGHTS).stat().st_mode & 0o777 == 0o644
    written = json.loads((tmp_path / "one" / "config.json").read_text())
    assert written["architectures"] == ["SiglipModel"]
    assert written["torch_dtype"] == "float32"


def test_shards(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny)
    save(model, tmp_path, max_shard_bytes=60_000)
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(shards) > 3
    assert {path.name for path in shards} == set(index["weight_map"].values())
    assert index["weight_map"].keys() == model.state_dict().keys()
    assert index["metadata"]["total_size"] == sum(p.nbytes for p in model.state_dict().values())
    assert all(sum(v.nbytes for v in load_file(path).values()) <= 60_000 for path in shards)
    assert equal(load_model(tmp_path), model)
    assert equal(load_tower(tmp_path, "vision"), load_tower(tiny, "vision"))
    save(model, tmp_path)  # over the shards
    assert not list(tmp_path.glob("model-*")) and not (tmp_path / "model.safetensors.index.json").exists()
    assert equal(load_model(tmp_path), model)


@pytest.mark.parity(row="Checkpoints")
def test_shards_are_read_by_transformers(tiny: Path, tmp_path: Path) -> None:
    import transformers

    model = load_model(tiny)
    save(model, tmp_path, max_shard_bytes=60_000)
    theirs = transformers.SiglipModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert equal(theirs, model)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_a_tower_reads_only_its_own_tensors(tiny: Path, tower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = weights.safe_open

    class Spy:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.file = real(*arguments, **options)

        def __enter__(self) -> "Spy":
            self.file.__enter__()
            return self

        def __exit__(self, *arguments: object) -> None:
            self.file.__exit__(*arguments)

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return self.file.get_tensor(name)

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    monkeypatch.setattr(weights, "safe_open", Spy)
    model = load_tower(tiny, tower)  # type: ignore[arg-type]
    assert isinstance(model, SiglipTextModel if tower == "text" else SiglipVisionModel)
    assert all(name.startswith(f"{tower}_model.") for name in read)
    assert set(read) == model.state_dict().keys()
    whole = getattr(load_model(tiny), f"{tower}_model")
    assert equal(getattr(model, f"{tower}_model"), whole)


def test_missing_and_left_over_tensors_are_listed(copy: Path) -> None:
    change(
        copy,
        remove=("vision_model.head.probe", "logit_bias"),
        surplus=load_file(copy / WEIGHTS)["logit_bias"],
    )
    with pytest.raises(CheckpointError) as caught:
        load_model(copy)
    assert str(caught.value) == f"{copy}: missing: logit_bias, vision_model.head.probe; left over: surplus"
    with pytest.raises(CheckpointError, match=r"missing: vision_model\.head\.probe$"):
        load_tower(copy, "vision")
    load_tower(copy, "text")  # nothing of the text tower is wrong


def test_a_layer_too_many_and_too_few(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    for layers, complaint in ((2, "left over"), (4, "missing")):
        config["text_config"]["num_hidden_layers"] = layers
        (copy / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=rf"{complaint}: .*layers\.\d\.\S* and 8 more"):
            load_model(copy)


def test_a_wrong_shape_is_named(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 16
    (copy / "config.json").write_text(json.dumps(config))
    name = "text_model.embeddings.position_embedding.weight"
    with pytest.raises(CheckpointError, match=rf"wrong shape: {name} is \[64, 32\] and must be \[16, 32\]$"):
        load_model(copy)


def test_position_buffers_of_old_files_are_passed_over(copy: Path) -> None:
    positions = torch.arange(64)[None].numpy()
    change(
        copy,
        **{
            "text_model.embeddings.position_ids": positions,
            "vision_model.embeddings.position_ids": positions,
        },
    )
    assert equal(load_model(copy), load_model(copy.parent / "copy"))
    load_tower(copy, "vision")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(tiny: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = load_model(tiny, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    model.save_pretrained(tmp_path)
    assert {p.dtype for p in load_model(tmp_path, dtype=None).parameters()} == {dtype}
    assert {p.dtype for p in load_model(tmp_path).parameters()} == {torch.float32}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == str(dtype).split(".")[1]


def test_the_attention_that_was_asked_for(tiny: Path) -> None:
    from siglip_model.attention import eager_attention, sdpa_attention

    for name, function in (("eager", eager_attention), ("sdpa", sdpa_attention)):
        tower = load_tower(tiny, "text", attn_implementation=name)
        assert tower.text_model.encoder.layers[0].self_attn.attend is function
    with pytest.raises(ValueError, match="attn_implementation must be one of eager, sdpa"):
        load_model(tiny, attn_implementation="flash")


def test_a_tower_alone_is_no_whole_model_nor_the_other_tower(tiny: Path, tmp_path: Path) -> None:
    load_tower(tiny, "text").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds a siglip_text_model, not a siglip$"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds a siglip_text_model, not a siglip_vision_model$"):
        load_tower(tmp_path, "vision")


def test_other_model_types_are_refused(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(CheckpointError, match="has model_type clip; known are siglip, "):
        load_model(copy)


def test_numbers_that_no_model_can_have_are_the_checkpoints_fault(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["num_attention_heads"] = 7
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_size 32 is not divisible"):
        load_tower(copy, "text")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_size": "32"}, "hidden_size is '32' and must be a whole number above 0"),
        ({"hidden_size": -32}, "hidden_size is -32 and must be a whole number above 0"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0 and must be"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5 and must be"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps is 'tiny' and must be a number"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan and must be a number"),
        ({"hidden_act": ["gelu"]}, ""),
        ({"hidden_size": 4 * 10**20}, ""),
        ({"hidden_size": 4 * 10**9}, ""),
    ],
)
@pytest.mark.parametrize("tower", ["text", "vision"])
def test_a_damaged_configuration_is_one_line(
    copy: Path, tower: Literal["text", "vision"], values: dict[str, object], said: str
) -> None:
    config = json.loads((copy / "config.json").read_text())
    config[f"{tower}_config"] |= values
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as told:
        load_tower(copy, tower)
    assert str(told.value).startswith(f"{copy / 'config.json'}: {said}")
    assert "\n" not in str(told.value)


def test_damaged_and_missing_files(copy: Path) -> None:
    data = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(data[:-10])
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        load_model(copy)
    (copy / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"lacks model\.safetensors"):
        load_model(copy)
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks config\.json"):
        load_model(copy)


def test_a_model_without_pooling_head(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["vision_use_head"] = False
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="left over: vision_model"):
        load_tower(copy, "vision")
    change(copy, remove=tuple(name for name in load_file(copy / WEIGHTS) if "vision_model.head" in name))
    tower = load_tower(copy, "vision")
    assert tower(torch.zeros(1, 3, 32, 32)).pooler_output is None


def test_published_files_of_1_dimension_less_are_refused(copy: Path) -> None:
    """A scalar stored as [] in place of [1] is a wrong shape, not a silent broadcast."""
    weights = {name: torch.from_numpy(value) for name, value in load_file(copy / WEIGHTS).items()}
    save_torch(weights | {"logit_scale": torch.tensor(4.7)}, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"logit_scale is \[\] and must be \[1\]"):
        load_model(copy)
