"""Configurations: defaults filled in, unknown keys kept, towers found in a whole model's file."""

import json
from pathlib import Path

import pytest
import transformers

from siglip_model import CheckpointError, SiglipConfig, SiglipTextConfig, SiglipVisionConfig
from tests.model.conftest import Equal

pytestmark = pytest.mark.parity(row="Configs")


def write(folder: Path, **values: object) -> Path:
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_defaults_are_those_of_the_reference(equal: Equal) -> None:
    # The installed release dropped the two leftovers of CLIP that v4.50 still writes.
    pairs = [
        (SiglipTextConfig(), transformers.SiglipTextConfig()),
        (SiglipVisionConfig(), transformers.SiglipVisionConfig()),
    ]
    for ours, theirs in pairs:
        for name, value in vars(ours).items():
            equal(f"defaults of {type(ours).__name__}", value, getattr(theirs, name))


def test_files_of_the_hub_leave_out_every_default(tmp_path: Path) -> None:
    write(tmp_path, model_type="siglip", text_config={"vocab_size": 250_000}, vision_config=None)
    config = SiglipConfig.from_pretrained(tmp_path)
    assert config.text_config == SiglipTextConfig(vocab_size=250_000)
    assert config.vision_config == SiglipVisionConfig()
    assert SiglipTextConfig.from_pretrained(tmp_path).vocab_size == 250_000
    assert SiglipVisionConfig.from_pretrained(tmp_path).image_size == 224


def test_unknown_keys_survive(tmp_path: Path) -> None:
    values = {"model_type": "siglip", "made_by": "someone", "text_config": {"odd": [1]}, "vision_config": {}}
    config = SiglipConfig.from_pretrained(write(tmp_path, **values))
    assert config.made_by == "someone"  # type: ignore[attr-defined]
    config.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["made_by"] == "someone"
    assert again["text_config"]["odd"] == [1]
    assert again["text_config"]["model_type"] == "siglip_text_model"


def test_what_we_write_transformers_reads(tmp_path: Path) -> None:
    text = SiglipTextConfig(hidden_size=48, projection_size=72, bos_token_id=0, eos_token_id=1)
    SiglipConfig(
        text_config=text, vision_config=SiglipVisionConfig(hidden_size=72, image_size=50)
    ).save_pretrained(tmp_path)
    theirs = transformers.SiglipConfig.from_pretrained(tmp_path)
    assert (theirs.text_config.hidden_size, theirs.text_config.projection_size) == (48, 72)
    assert (theirs.vision_config.hidden_size, theirs.vision_config.image_size) == (72, 50)


def test_projection_size_is_the_width_unless_given() -> None:
    assert SiglipTextConfig(hidden_size=48).projection_size == 48
    assert SiglipTextConfig(hidden_size=48, projection_size=7).projection_size == 7


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks config\.json"):
        SiglipConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds list, not an object"):
        SiglipConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ([1], r"text_config must be an object, not \[1\]"),
        ({"vocab_size": None}, "vocab_size is None and must be a whole number above 0"),
        ({"max_position_embeddings": True}, "max_position_embeddings is True and must be"),
    ],
)
def test_what_no_tower_can_have_is_refused(tmp_path: Path, section: object, said: str) -> None:
    write(tmp_path, model_type="siglip", text_config=section)
    for kind in (SiglipConfig, SiglipTextConfig):
        with pytest.raises(CheckpointError, match=rf"config\.json: {said}"):
            kind.from_pretrained(tmp_path)


def test_labels_as_the_reference_has_them(tmp_path: Path) -> None:
    for values in (
        {},
        {"num_labels": 3},
        {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}},
    ):
        ours = SiglipConfig.from_dict(values)
        theirs = transformers.SiglipConfig(**values)
        assert (ours.num_labels, ours.id2label, ours.label2id) == (
            theirs.num_labels,
            theirs.id2label,
            theirs.label2id,
        )
        ours.save_pretrained(tmp_path)
        again = SiglipConfig.from_pretrained(tmp_path)
        assert again.id2label == ours.id2label == transformers.SiglipConfig.from_pretrained(tmp_path).id2label
    config = SiglipConfig()
    config.num_labels = 4
    assert config.id2label[3] == "LABEL_3" and config.label2id["LABEL_0"] == 0 and len(config.label2id) == 4


def test_overrides(tmp_path: Path) -> None:
    folder = write(tmp_path, model_type="siglip", id2label={"0": "only"})
    config = SiglipConfig.from_pretrained(folder, num_labels=3, problem_type="regression", return_dict=False)
    assert (config.num_labels, config.problem_type, config.use_return_dict) == (3, "regression", False)
    assert SiglipVisionConfig.from_pretrained(folder, image_size=96).image_size == 96
    with pytest.raises(TypeError, match="SiglipConfig has no num_lables"):
        SiglipConfig.from_pretrained(folder, num_lables=3)
    with pytest.raises(CheckpointError, match="image_size is -1 and must be"):
        SiglipVisionConfig.from_pretrained(folder, image_size=-1)


def test_from_two_towers() -> None:
    text, vision = SiglipTextConfig(vocab_size=77), SiglipVisionConfig(patch_size=8)
    config = SiglipConfig.from_text_vision_configs(text, vision, initializer_factor=0.5)
    assert config.text_config is text and config.vision_config is vision
    assert config.initializer_factor == 0.5


def test_saved_files_hold_only_what_differs(tmp_path: Path) -> None:
    SiglipConfig(text_config={"vocab_size": 77}).save_pretrained(tmp_path)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "model_type": "siglip",
        "text_config": {"model_type": "siglip_text_model", "vocab_size": 77},
        "vision_config": {"model_type": "siglip_vision_model"},
    }
    everything = SiglipConfig().to_dict()
    assert everything["text_config"]["hidden_act"] == "gelu_pytorch_tanh"
    assert json.loads(SiglipConfig().to_json_string()) == SiglipConfig().to_diff_dict()


def test_a_damaged_map_of_labels(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        SiglipConfig.from_pretrained(write(tmp_path, model_type="siglip", id2label=["cat"]))
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        SiglipConfig.from_pretrained(write(tmp_path, model_type="siglip", use_return_dict=1))


@pytest.mark.parametrize("width", [48, 768, 1024])
@pytest.mark.parametrize("projection", [None, 48, 768, 1024])
def test_the_projection_survives_a_saved_file(tmp_path: Path, width: int, projection: int | None) -> None:
    """A file without it means the width of the text tower, whatever the default width is."""
    text = SiglipTextConfig(hidden_size=width, projection_size=projection)  # type: ignore[arg-type]
    SiglipConfig(text_config=text).save_pretrained(tmp_path)
    wanted = projection or width
    assert SiglipConfig.from_pretrained(tmp_path).text_config.projection_size == wanted
    assert SiglipTextConfig.from_pretrained(tmp_path).projection_size == wanted
    assert transformers.SiglipConfig.from_pretrained(tmp_path).text_config.projection_size == wanted


def test_a_tower_given_as_an_override(tmp_path: Path) -> None:
    SiglipConfig().save_pretrained(tmp_path)
    config = SiglipConfig.from_pretrained(tmp_path, text_config={"vocab_size": 5}, local_files_only=True)
    assert config.text_config == SiglipTextConfig(vocab_size=5)
    with pytest.raises(CheckpointError, match="vocab_size is 0 and must be"):
        SiglipConfig.from_pretrained(tmp_path, text_config={"vocab_size": 0})


def test_two_towers_with_labels_and_other_keys() -> None:
    text, vision = SiglipTextConfig(), SiglipVisionConfig()
    config = SiglipConfig.from_text_vision_configs(text, vision, num_labels=3, made_by="someone")
    assert (config.num_labels, config.made_by) == (3, "someone")  # type: ignore[attr-defined]
