"""NaFlex models stage by stage against the installed transformers, on random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from siglip_model import (
    AutoConfig,
    AutoModel,
    CheckpointError,
    Siglip2Config,
    Siglip2ForImageClassification,
    Siglip2Model,
    Siglip2TextModel,
    Siglip2VisionModel,
    SiglipModel,
)
from siglip_model.layers import PoolingHead
from siglip_model.outputs import SiglipOutput, TowerOutput
from tests.model.conftest import Compare, Equal
from tests.model.reference import HIDDEN, LOGITS, quiet_reference, reference
from tests.model.test_parity_model import BASE, Stages, label, stages, tolerance
from tests.support import flash_attn_stand_in
from tests.support.siglip2_checkpoints import write_naflex_checkpoint

pytestmark = pytest.mark.parity(row="SigLIP 2")

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    # Nothing equal to anything else, and a grid of positions that images stretch in both directions.
    "odd": {
        "text": {"hidden_size": 24, "num_attention_heads": 3, "projection_size": 40},
        "vision": {"hidden_size": 40, "intermediate_size": 72, "num_patches": 49, "patch_size": 3},
    },
}
PATCHES = 24
GRIDS = [(4, 4), (2, 9), (24, 1), (3, 8), (1, 1)]  # full and padded rows, larger and smaller than learned


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    quiet_reference()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("naflex")
    return {name: write_naflex_checkpoint(root / name, **shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def naflex(folders: dict[str, Path]) -> Path:
    return folders["tiny"]


def images(
    config: Siglip2Config, grids: list[tuple[int, int]] = GRIDS, patches: int = PATCHES
) -> dict[str, Tensor]:
    """Patches that are random where there is padding too: a mask that is forgotten must be seen."""
    draw = torch.Generator().manual_seed(1)
    vision = config.vision_config
    counts = torch.tensor([rows * columns for rows, columns in grids])
    return {
        "pixel_values": torch.randn(
            len(grids), patches, vision.num_channels * vision.patch_size**2, generator=draw
        ),
        "pixel_attention_mask": (torch.arange(patches) < counts[:, None]).int(),
        "spatial_shapes": torch.tensor(grids),
    }


def inputs(config: Siglip2Config) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(2)
    text = config.text_config
    ids = torch.randint(4, text.vocab_size, (3, text.max_position_embeddings), generator=draw)
    ids[-1, text.max_position_embeddings // 2 :] = 0
    return {"input_ids": ids} | images(config)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_stage(folders: dict[str, Path], shape: str, attention: str, close: Compare) -> None:
    ours = Siglip2Model.from_pretrained(folders[shape], attn_implementation=attention)
    given = inputs(ours.config)
    mine: Stages = stages(ours, given)
    theirs = stages(reference(folders[shape], attention, "Siglip2Model"), given)
    assert mine.keys() == theirs.keys()
    assert len(mine) == 22
    for stage, value in theirs.items():
        close(f"NaFlex {attention} {label(stage)}", mine[stage], value, tolerance(stage))


@pytest.mark.slow
def test_full_size(tmp_path: Path, close: Compare) -> None:
    """The towers of siglip2-base-patch16-naflex at 256 patches, with a smaller vocabulary."""
    folder = write_naflex_checkpoint(
        tmp_path, text=BASE, vision=BASE | {"num_patches": 256, "patch_size": 16}
    )
    ours = Siglip2Model.from_pretrained(folder)
    given = inputs(ours.config) | images(ours.config, [(16, 16), (10, 25), (9, 20)], patches=256)
    mine, theirs = stages(ours, given), stages(reference(folder, "sdpa", "Siglip2Model"), given)
    for stage, value in theirs.items():
        close(f"NaFlex base {label(stage)}", mine[stage], value, tolerance(stage))


def test_a_row_without_padding_and_without_a_mask(naflex: Path, close: Compare) -> None:
    ours = Siglip2Model.from_pretrained(naflex)
    full = images(ours.config, [(4, 6), (24, 1)])
    with torch.no_grad():
        theirs = reference(naflex, kind="Siglip2Model").get_image_features(**full)
        close(
            "NaFlex image vectors, full rows", ours.get_image_features(**full), theirs.pooler_output, HIDDEN
        )
        del full["pixel_attention_mask"]
        close(
            "NaFlex image vectors, full rows", ours.get_image_features(**full), theirs.pooler_output, HIDDEN
        )


def test_text_features_with_and_without_a_mask(naflex: Path, close: Compare) -> None:
    ours, theirs = Siglip2Model.from_pretrained(naflex), reference(naflex, kind="Siglip2Model")
    ids = inputs(ours.config)["input_ids"]
    for mask in (None, (ids != 0).long()):
        with torch.no_grad():
            expected = theirs.get_text_features(ids, attention_mask=mask).pooler_output
            close("NaFlex text vectors", ours.get_text_features(ids, mask), expected, HIDDEN)
    assert torch.linalg.vector_norm(ours.get_text_features(ids, normalize=True), dim=-1).allclose(
        torch.ones(3)
    )


def test_loss_attentions_and_hidden_states(naflex: Path, close: Compare) -> None:
    ours = Siglip2Model.from_pretrained(naflex, attn_implementation="eager")
    given = inputs(ours.config) | images(ours.config, GRIDS[:3])
    options = {"return_loss": True, "output_attentions": True, "output_hidden_states": True}
    mine, expected = ours(**given, **options), reference(naflex, kind="Siglip2Model")(**given, **options)
    close("NaFlex loss", mine.loss.detach(), expected.loss.detach(), LOGITS)
    assert mine.loss.requires_grad
    for tower in ("vision_model_output", "text_model_output"):
        for kind in ("attentions", "hidden_states"):
            pairs = zip(getattr(mine[tower], kind), getattr(expected[tower], kind), strict=True)
            for value, target in pairs:
                close(f"NaFlex {tower} {kind}", value.detach(), target.detach(), HIDDEN)


def test_padding_has_no_influence_on_a_vector(naflex: Path) -> None:
    ours = Siglip2Model.from_pretrained(naflex)
    given = images(ours.config, [(3, 5), (2, 2)])
    before = ours.get_image_features(**given)
    given["pixel_values"][given["pixel_attention_mask"] == 0] = 100
    torch.testing.assert_close(ours.get_image_features(**given), before)
    torch.testing.assert_close(ours.get_image_features(**{k: v[1:] for k, v in given.items()}), before[1:])


def test_gradients_reach_every_weight_and_equal_the_reference(naflex: Path, close: Compare) -> None:
    ours, theirs = Siglip2Model.from_pretrained(naflex), reference(naflex, "sdpa", "Siglip2Model")
    given = inputs(ours.config) | images(ours.config, GRIDS[:3])
    for model in (ours, theirs):
        model(**given, return_loss=True).loss.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None and expected[name].grad is not None, name
        scale = expected[name].grad.abs().max().clamp(min=1)
        close("NaFlex gradients", parameter.grad / scale, expected[name].grad / scale, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_positions_are_stretched_in_float32(naflex: Path, dtype: torch.dtype, equal: Equal) -> None:
    ours = Siglip2VisionModel.from_pretrained(naflex, torch_dtype=dtype).vision_model.embeddings
    grid = torch.tensor(GRIDS)
    square = ours.position_embedding.weight.detach().view(ours.side, ours.side, -1)
    theirs = reference(naflex, kind="Siglip2Model").vision_model.embeddings
    expected = theirs.resize_positional_embeddings(square, grid, PATCHES)
    mine = ours.positions(GRIDS, PATCHES).detach()
    assert mine.dtype == dtype
    equal("NaFlex positions in half precision", mine.float().numpy(), expected.float().numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(naflex: Path, dtype: torch.dtype) -> None:
    whole, half = (Siglip2Model.from_pretrained(naflex, torch_dtype=kind) for kind in (torch.float32, dtype))
    given = inputs(whole.config)
    with torch.no_grad():
        exact, rough = whole(**given), half(**given)
    cosines = (exact.image_embeds * rough.image_embeds).sum(-1)
    assert cosines.min() > 0.999
    assert rough.logits_per_image.dtype == torch.float32


@pytest.mark.parametrize("standalone", [False, True])
def test_towers_alone(naflex: Path, tmp_path: Path, standalone: bool, close: Compare) -> None:
    """From the whole model's folder, and from what the reference saves of one tower, without a prefix."""
    whole = Siglip2Model.from_pretrained(naflex)
    given = inputs(whole.config)
    folders = {"Text": naflex, "Vision": naflex}
    if standalone:
        folders = {kind: tmp_path / kind for kind in folders}
        for kind, folder in folders.items():
            reference(naflex, kind=f"Siglip2{kind}Model").save_pretrained(folder)
    text, vision = (
        Siglip2TextModel.from_pretrained(folders["Text"]),
        AutoModel.from_pretrained(folders["Vision"]),
    )
    vision = vision if standalone else Siglip2VisionModel.from_pretrained(naflex)
    assert type(vision) is Siglip2VisionModel
    ids = given.pop("input_ids")
    with torch.no_grad():
        close("NaFlex text tower alone", text(ids).pooler_output, whole.get_text_features(ids), 0)
        close(
            "NaFlex vision tower alone", vision(**given).pooler_output, whole.get_image_features(**given), 0
        )


@pytest.mark.parametrize("masked", [True, False])
def test_classification(naflex: Path, tmp_path: Path, masked: bool, close: Compare) -> None:
    with pytest.warns(UserWarning, match="classifier"):
        Siglip2ForImageClassification.from_pretrained(naflex, num_labels=5).save_pretrained(tmp_path)
    ours = Siglip2ForImageClassification.from_pretrained(tmp_path)
    given = images(ours.config, GRIDS if masked else [(4, 6)] * 5)
    labels = torch.tensor([0, 4, 2, 2, 1])
    theirs = reference(tmp_path, kind="Siglip2ForImageClassification")
    mine, expected = ours(**given, labels=labels), theirs(**given, labels=labels)
    close("NaFlex classification logits", mine.logits.detach(), expected.logits.detach(), HIDDEN)
    close("NaFlex classification loss", mine.loss.detach(), expected.loss.detach(), HIDDEN)
    mine.loss.backward()
    trained = {name for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    if not masked:
        del given["pixel_attention_mask"]
        close("NaFlex classification logits", ours(**given).logits.detach(), expected.logits.detach(), HIDDEN)


def test_the_reference_reads_what_is_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    ours = Siglip2Model.from_pretrained(folders["odd"])
    ours.save_pretrained(tmp_path)
    theirs, report = transformers.Siglip2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    assert theirs.config.vision_config.num_patches == 49
    assert theirs.config.text_config.projection_size == 40


def test_configuration(folders: dict[str, Path]) -> None:
    config = AutoConfig.from_pretrained(folders["odd"])
    assert type(config) is Siglip2Config
    expected = transformers.Siglip2Config.from_pretrained(folders["odd"])
    for tower in ("text_config", "vision_config"):
        ours, theirs = getattr(config, tower), getattr(expected, tower)
        assert {name: getattr(theirs, name) for name in ours.field_names()} == {
            name: getattr(ours, name) for name in ours.field_names()
        }
    defaults, theirs = Siglip2Config(), transformers.Siglip2Config()
    for name in defaults.vision_config.field_names():
        assert getattr(defaults.vision_config, name) == getattr(theirs.vision_config, name)
    assert "model_type" in defaults.to_diff_dict() and not hasattr(defaults.vision_config, "image_size")


def test_tuples_and_starting_weights(naflex: Path) -> None:
    torch.manual_seed(0)
    model = Siglip2Model(Siglip2Config.from_pretrained(naflex))
    assert model.logit_scale.item() == model.logit_bias.item() == 0
    given = inputs(model.config)
    assert isinstance(model(**given), SiglipOutput)
    assert isinstance(model.vision_model(*list(given.values())[1:]), TowerOutput)
    assert len(model(**given, return_dict=False)) == 6
    deviation = model.vision_model.embeddings.position_embedding.weight.std().item()
    assert deviation == pytest.approx(32**-0.5, rel=0.1)
    assert any(isinstance(module, PoolingHead) for module in model.modules())


def test_flash_takes_full_rows_and_refuses_padding(
    naflex: Path, monkeypatch: pytest.MonkeyPatch, close: Compare
) -> None:
    calls = flash_attn_stand_in.install(monkeypatch)
    ours = Siglip2VisionModel.from_pretrained(
        naflex, torch_dtype=torch.bfloat16, attn_implementation="flash_attention_2"
    )
    plain = Siglip2VisionModel.from_pretrained(naflex, torch_dtype=torch.bfloat16)
    config = Siglip2Config.from_pretrained(naflex)
    full = images(config, [(4, 6), (3, 8)])
    with torch.no_grad():
        close(
            "NaFlex flash, full rows",
            ours(**full).pooler_output.float(),
            plain(**full).pooler_output.float(),
            0.05,
        )
    assert len(calls) == 2
    with pytest.raises(ValueError, match="flash_attention_2 cannot follow"):
        ours(**images(config))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spatial_shapes": None}, "specify pixel_values and spatial_shapes"),
        ({"spatial_shapes": torch.tensor([[4, 7]])}, "grid of 4 x 7, pixel_values have 24 patches"),
        ({"spatial_shapes": torch.tensor([[0, 7]])}, "grid of 0 x 7"),
        ({"spatial_shapes": torch.tensor([[4, 6], [4, 6]])}, r"spatial_shapes are \[2, 2\]"),
        ({"pixel_values": torch.zeros(1, 3, 16, 16)}, r"must be \[B, S, 48\]"),
        ({"pixel_values": torch.zeros(1, 24, 47)}, r"must be \[B, S, 48\]"),
    ],
)
def test_wrong_inputs_are_told(naflex: Path, change: dict[str, Tensor], words: str) -> None:
    model = Siglip2VisionModel.from_pretrained(naflex)
    given = images(Siglip2Config.from_pretrained(naflex), [(4, 6)]) | change
    with pytest.raises(ValueError, match=words):
        model(**given)


def test_the_other_kind_of_model_is_refused(naflex: Path, tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a siglip2, not a siglip"):
        SiglipModel.from_pretrained(naflex)
    with pytest.raises(CheckpointError, match="holds a siglip, not a siglip2"):
        Siglip2Model.from_pretrained(tiny)
    with pytest.raises(CheckpointError, match="num_patches is 15 and must be a square"):
        Siglip2Model.from_pretrained(naflex, config=_not_square(naflex))


def _not_square(folder: Path) -> Siglip2Config:
    config = Siglip2Config.from_pretrained(folder)
    config.vision_config.num_patches = 15
    return config
