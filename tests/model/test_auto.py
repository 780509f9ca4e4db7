"""The Auto classes, and the options that users of transformers pass along."""

from pathlib import Path

import pytest
import torch

import siglip_model
from siglip_model import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoProcessor,
    AutoTokenizer,
    CheckpointError,
    SiglipForImageClassification,
    SiglipModel,
)

pytestmark = pytest.mark.parity(row="Models", against="what was saved")

HUB = {"cache_dir": "unused", "local_files_only": True, "token": None, "trust_remote_code": True}


@pytest.mark.parametrize(
    ("auto", "found"),
    [
        (AutoConfig, "SiglipConfig"),
        (AutoModel, "SiglipModel"),
        (AutoTokenizer, "SiglipTokenizer"),
        (AutoImageProcessor, "SiglipImageProcessor"),
        (AutoProcessor, "SiglipProcessor"),
    ],
)
def test_the_class_that_fits_with_the_options_of_the_hub(tiny: Path, auto: type, found: str) -> None:
    made = auto.from_pretrained(tiny, **HUB)  # type: ignore[attr-defined]
    assert type(made) is getattr(siglip_model, found)
    assert type(getattr(siglip_model, found).from_pretrained(tiny, revision="main")) is type(made)
    with pytest.raises(TypeError, match="colour"):
        auto.from_pretrained(tiny, colour="red")  # type: ignore[attr-defined]


def test_towers_and_unknown_models(tiny: Path, tmp_path: Path) -> None:
    siglip_model.SiglipTextModel.from_pretrained(tiny).save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is siglip_model.SiglipTextModel
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="has model_type clip; known are siglip, "):
        AutoModel.from_pretrained(tmp_path)


def test_a_model_with_starting_weights(tiny: Path) -> None:
    config = AutoConfig.from_pretrained(tiny)
    model = AutoModel.from_config(config, attn_implementation="eager")
    assert type(model) is SiglipModel and model.attn_implementation == "eager"
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    model.vision_model.requires_grad_(False)
    assert 0 < model.num_parameters(only_trainable=True) < model.num_parameters()


def test_a_classifier_of_another_size_starts_anew_when_asked(tiny: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="they start at random"):
        model = AutoModelForImageClassification.from_pretrained(tiny, num_labels=3)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"classifier\.bias is \[3\]"):
        SiglipForImageClassification.from_pretrained(tmp_path, num_labels=5)
    with pytest.warns(UserWarning, match="they start at random"):
        other = SiglipForImageClassification.from_pretrained(
            tmp_path, num_labels=5, ignore_mismatched_sizes=True
        )
    assert other.classifier.weight.shape == (5, 32)  # type: ignore[union-attr]
    same = SiglipForImageClassification.from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    assert torch.equal(same.classifier.weight, model.classifier.weight)  # type: ignore[arg-type]
