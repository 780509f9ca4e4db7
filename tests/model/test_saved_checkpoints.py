"""What this project saves and what others save: read by both, exactly, at little cost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

import siglip_model
from siglip_model import CheckpointError, SiglipForImageClassification, SiglipModel, SiglipVisionModel
from siglip_model.saving import save, size_in_bytes
from tests.model.reference import quiet_reference

pytestmark = pytest.mark.parity(row="Checkpoints")

KINDS = ["SiglipModel", "SiglipTextModel", "SiglipVisionModel", "SiglipForImageClassification"]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    quiet_reference()


def make(kind: str, tiny: Path) -> Any:
    cls = getattr(siglip_model, kind)
    if kind == "SiglipForImageClassification":
        with pytest.warns(UserWarning, match=r"has no classifier\.bias, classifier\.weight: they start"):
            return cls.from_pretrained(tiny, num_labels=3)
    return cls.from_pretrained(tiny)


def equal(left: nn.Module, right: nn.Module) -> bool:
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_through_transformers(tiny: Path, tmp_path: Path, kind: str, shards: bool) -> None:
    ours = make(kind, tiny)
    save(ours, tmp_path / "ours", max_shard_bytes=40_000 if shards else 10**9)
    theirs, told = getattr(transformers, kind).from_pretrained(
        tmp_path / "ours", dtype=torch.float32, output_loading_info=True
    )
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
    theirs.save_pretrained(tmp_path / "theirs", **({"max_shard_size": "40KB"} if shards else {}))
    again = type(ours).from_pretrained(tmp_path / "theirs")
    assert equal(again, ours)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_read_by_the_oldest_release_that_we_follow(tiny: Path, tmp_path: Path, kind: str) -> None:
    python = Path(__file__).parents[2] / ".venv-goldens" / "bin" / "python"
    if not python.is_file():
        pytest.skip("`make goldens` sets up transformers 4.50.3")
    make(kind, tiny).save_pretrained(tmp_path)
    script = (
        "import sys, json, torch, transformers\n"
        "kind = getattr(transformers, sys.argv[2])\n"
        "model, told = kind.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "total = sum(float(value.double().sum()) for value in model.state_dict().values())\n"
        "print(json.dumps([transformers.__version__, {k: list(v) for k, v in told.items()}, total]))\n"
    )
    run = subprocess.run([python, "-c", script, tmp_path, kind], capture_output=True, text=True, check=True)
    version, told, total = json.loads(run.stdout.splitlines()[-1])
    assert version == "4.50.3"
    assert not any(told.values()), told
    assert total == sum(float(v.double().sum()) for v in load_file(tmp_path / "model.safetensors").values())


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
def test_pickled_weights_only_when_asked_for(tiny: Path, tmp_path: Path, shards: bool) -> None:
    model = SiglipModel.from_pretrained(tiny)
    state = model.state_dict()
    shutil.copy(tiny / "config.json", tmp_path)
    if shards:
        names = list(state)
        parts = {"pytorch_model-1.bin": names[:50], "pytorch_model-2.bin": names[50:]}
        for file, keys in parts.items():
            torch.save({key: state[key] for key in keys}, tmp_path / file)
        index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is a pickle and is read only when asked for"):
        SiglipModel.from_pretrained(tmp_path)
    assert equal(SiglipModel.from_pretrained(tmp_path, use_safetensors=False), model)
    # Where there are safetensors a pickle is not even opened.
    model.save_pretrained(tmp_path)
    for path in tmp_path.glob("*.bin"):
        path.write_bytes(b"not a pickle")
    assert equal(SiglipModel.from_pretrained(tmp_path, use_safetensors=False), model)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("content", ["code", "garbage", "a list"])
def test_a_pickle_runs_nothing(
    tiny: Path, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny / "config.json", tmp_path)
    path = tmp_path / "pytorch_model.bin"
    if content == "garbage":
        path.write_bytes(b"\x80\x04hello")
    else:
        torch.save({"x": Evil()} if content == "code" else [torch.zeros(1)], path)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin holds no"):
        SiglipModel.from_pretrained(tmp_path, use_safetensors=False)
    assert not (tmp_path / "pwned").exists()


def test_a_classifier_is_read_and_half_a_one_refused(tiny: Path, tmp_path: Path) -> None:
    model = make("SiglipForImageClassification", tiny)
    model.save_pretrained(tmp_path)
    again = SiglipForImageClassification.from_pretrained(tmp_path)
    assert equal(again, model) and again.config.num_labels == 3
    assert SiglipVisionModel.from_pretrained(tmp_path).vision_model is not None
    assert not any(p.requires_grad for p in again.vision_model.head.parameters())
    assert all(p.requires_grad for name, p in again.named_parameters() if "vision_model.head" not in name)
    with pytest.raises(CheckpointError, match=r"classifier\.bias is \[3\] and must be \[5\]"):
        SiglipForImageClassification.from_pretrained(tmp_path, num_labels=5)
    with pytest.raises(CheckpointError, match="missing: logit_bias, logit_scale, text_model"):
        SiglipModel.from_pretrained(tmp_path)


def test_a_fresh_classifier_has_the_reference_s_spread(tiny: Path) -> None:
    with pytest.warns(UserWarning, match="start at random"):
        model = SiglipForImageClassification.from_pretrained(tiny, num_labels=500)
    assert abs(float(model.classifier.weight.detach().std()) - 32**-0.5) < 0.01  # type: ignore[arg-type]
    assert not model.classifier.bias.any()  # type: ignore[union-attr]


def test_a_crash_while_saving_leaves_the_old_checkpoint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SiglipModel.from_pretrained(tiny)
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    real = siglip_model.saving.save_file  # type: ignore[attr-defined]

    def fail(state: dict[str, torch.Tensor], path: Path, **options: Any) -> None:
        real(state, path, **options)
        raise OSError("no space left")

    monkeypatch.setattr("siglip_model.saving.save_file", fail)
    nn.init.zeros_(model.logit_bias)
    with pytest.raises(OSError, match="no space left"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert equal(SiglipModel.from_pretrained(tmp_path), SiglipModel.from_pretrained(tiny))


def test_training_and_removal_leave_the_file_as_it_is(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "copy")
    before = (folder / "model.safetensors").read_bytes()
    model = SiglipModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before
    fresh = SiglipModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    assert equal(fresh, SiglipModel.from_pretrained(tiny))


def test_tensors_that_do_not_lie_in_order_are_saved(tiny: Path, tmp_path: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    weight = model.text_model.head.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    model.save_pretrained(tmp_path)
    assert equal(SiglipModel.from_pretrained(tmp_path), model)


@pytest.mark.parametrize(
    ("size", "expected"), [(17, 17), ("5GB", 5 * 10**9), ("2MiB", 2 << 20), ("300 KB", 300_000)]
)
def test_sizes(size: int | str, expected: int) -> None:
    assert size_in_bytes(size) == expected


def test_a_bad_size_and_a_pickle_are_not_saved(tiny: Path, tmp_path: Path) -> None:
    model = SiglipVisionModel.from_pretrained(tiny)
    with pytest.raises(ValueError, match="not 'big'"):
        model.save_pretrained(tmp_path, max_shard_size="big")
    with pytest.raises(ValueError, match="safe_serialization=False would write a pickle"):
        model.save_pretrained(tmp_path, safe_serialization=False)


LOAD_AND_MEASURE = """
import resource, sys, torch
from siglip_model import SiglipModel, SiglipVisionModel
import siglip_model.checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = getattr(sys.modules["siglip_model"], sys.argv[2]).from_pretrained(sys.argv[1])
total = sum(float(p.detach().sum()) for p in model.parameters())  # every page is used
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
print(sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SiglipModel", "SiglipVisionModel"])
def test_peak_memory_of_loading(tmp_path: Path, kind: str) -> None:
    """At most 1.15 times the weights; for a tower, its own weights."""
    width = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 6}
    config = siglip_model.SiglipConfig(
        text_config=width | {"vocab_size": 32000},  # type: ignore[arg-type]
        vision_config=width,  # type: ignore[arg-type]
    )
    SiglipModel(config).save_pretrained(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", LOAD_AND_MEASURE, tmp_path, kind], capture_output=True, text=True, check=True
    )
    peak, weights = map(int, run.stdout.split())
    assert weights > 80_000_000
    assert peak <= 1.15 * weights
