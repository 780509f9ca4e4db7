"""Every stage of both towers against the installed transformers, on random weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.activations import ACT2FN

from siglip_model import SiglipConfig, SiglipModel, SiglipTextModel, SiglipVisionModel, load_tower
from siglip_model.activations import ACTIVATIONS
from tests.model.conftest import SHAPES, Compare
from tests.support.checkpoints import write_tiny_checkpoint

pytestmark = pytest.mark.parity(row="Models")

HIDDEN, EMBEDS, LOGITS = 2e-5, 1e-6, 5e-5  # float32, two implementations of the same arithmetic
IMPLEMENTATIONS = ["eager", "sdpa"]

BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 1, "num_attention_heads": 16}

Stages = dict[str, Tensor]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """No talk from the reference, and one thread: the models are too small to share out."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reference(folder: Path, attention: str = "eager") -> transformers.SiglipModel:
    model = transformers.SiglipModel.from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32
    )
    return model.eval()


def inputs(model: SiglipModel, seed: int = 1) -> dict[str, Tensor]:
    """Three texts, two pictures; the last text is half padding, which nobody masks."""
    draw = torch.Generator().manual_seed(seed)
    text, side = model.config.text_config, model.config.vision_config.image_size
    ids = torch.randint(3, text.vocab_size, (3, text.max_position_embeddings), generator=draw)
    ids[2, text.max_position_embeddings // 2 :] = 1
    return {"input_ids": ids, "pixel_values": torch.randn(2, 3, side, side, generator=draw)}


def stages(model: nn.Module, given: dict[str, Tensor]) -> Stages:
    """What each named part of a model gives, by the names that both implementations share."""
    seen: Stages = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, arguments: object, output: object) -> None:
            seen[name] = first_tensor(output)

        return hook

    parts = {name: part for name, part in model.named_modules() if is_stage(name)}
    hooks = [part.register_forward_hook(keep(name)) for name, part in parts.items()]  # type: ignore[arg-type]
    with torch.no_grad():
        output = model(**given)
    for hook in hooks:
        hook.remove()
    assert seen.keys() == parts.keys()
    seen["text pooled"] = output.text_model_output.pooler_output
    seen["image pooled"] = output.vision_model_output.pooler_output
    for name in ("text_embeds", "image_embeds", "logits_per_text", "logits_per_image"):
        seen[name] = getattr(output, name)
    return seen


def is_stage(name: str) -> bool:
    last = name.rsplit(".", 1)[-1]
    return (
        last in ("embeddings", "self_attn", "final_layer_norm", "post_layernorm", "head") or last.isdecimal()
    )


def first_tensor(output: object) -> Tensor:
    return output[0] if isinstance(output, tuple) else output  # type: ignore[return-value]


def tolerance(stage: str) -> float:
    return LOGITS if stage.startswith("logits") else EMBEDS if stage.endswith("embeds") else HIDDEN


def label(stage: str) -> str:
    """Layers of one tower share a line of the summary."""
    return ".".join("N" if part.isdecimal() else part for part in stage.split("."))


@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_stage(checkpoints: dict[str, Path], shape: str, attention: str, close: Compare) -> None:
    ours = SiglipModel.from_pretrained(checkpoints[shape], attn_implementation=attention)
    given = inputs(ours)
    mine, theirs = stages(ours, given), stages(reference(checkpoints[shape], attention), given)
    assert mine.keys() == theirs.keys()
    assert len(mine) == 22  # 9 of the text tower with 3 layers, 7 of the vision tower with 2, 6 of the whole
    for stage, value in theirs.items():
        close(f"{attention} {label(stage)}", mine[stage], value, tolerance(stage))


def test_every_documented_activation_is_known() -> None:
    assert set(ACTIVATIONS) - set(ACT2FN) == {"selu"}  # documented there, and yet not in its table
    assert ACTIVATIONS["selu"] is torch.nn.functional.selu


@pytest.mark.parametrize("act", sorted(ACTIVATIONS.keys() & ACT2FN.keys()))
def test_every_activation(tmp_path: Path, act: str, close: Compare) -> None:
    write_tiny_checkpoint(tmp_path, text={"hidden_act": act}, vision={"hidden_act": act})
    ours = SiglipModel.from_pretrained(tmp_path, attn_implementation="eager")
    given = inputs(ours)
    mine, theirs = stages(ours, given), stages(reference(tmp_path), given)
    for stage in ("text pooled", "image pooled", "logits_per_image"):
        close(f"activations: {stage}", mine[stage], theirs[stage], tolerance(stage))


@pytest.mark.parity(row="Attention")
@pytest.mark.parametrize(
    ("attention", "kind"), [("eager", torch.int64), ("sdpa", torch.bool), ("sdpa", torch.float32)]
)
def test_attention_mask(tiny: Path, attention: str, kind: torch.dtype, close: Compare) -> None:
    ours = SiglipModel.from_pretrained(tiny, attn_implementation=attention)
    given = inputs(ours)
    mask = torch.ones_like(given["input_ids"])
    mask[1, 40:], mask[2, 3:] = 0, 0
    plain = stages(ours, given)
    given["attention_mask"] = mask.to(kind)
    mine = stages(ours, given)
    # transformers reads floats as an additive mask in some releases, so it gets integers.
    theirs = stages(reference(tiny, attention), given | {"attention_mask": mask})
    for stage, value in theirs.items():
        if stage.startswith("text"):
            close(f"masked {label(stage)}", mine[stage], value, tolerance(stage))
    torch.testing.assert_close(mine["text_embeds"][0], plain["text_embeds"][0], rtol=0, atol=EMBEDS)
    assert (mine["text_embeds"][2] - plain["text_embeds"][2]).abs().max() > 0.01


def test_a_mask_of_ones_changes_nothing(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    ids = inputs(model)["input_ids"]
    with torch.no_grad():
        plain, masked = model.get_text_features(ids), model.get_text_features(ids, torch.ones_like(ids))
    torch.testing.assert_close(masked, plain, rtol=0, atol=EMBEDS)


def test_position_ids(tiny: Path, close: Compare) -> None:
    ours = SiglipModel.from_pretrained(tiny)
    given = inputs(ours) | {"position_ids": torch.arange(63, -1, -1)[None]}
    mine, theirs = stages(ours, given), stages(reference(tiny, "sdpa"), given)
    for stage in ("text_model.embeddings", "text pooled"):
        close(f"{stage}, position_ids", mine[stage], theirs[stage], tolerance(stage))


@pytest.mark.parity(row="Checkpoints")
@pytest.mark.parametrize("prefixed", [True, False], ids=["transformers 4 names", "transformers 5 names"])
def test_standalone_towers(tiny: Path, tmp_path: Path, prefixed: bool, close: Compare) -> None:
    """Transformers 5 writes towers without the prefix; ours are written with it, as 4 does."""
    given = inputs(SiglipModel.from_pretrained(tiny))
    text, vision = SiglipTextModel.from_pretrained(tiny), SiglipVisionModel.from_pretrained(tiny)
    for ours, kind, name in (
        (text, transformers.SiglipTextModel, "input_ids"),
        (vision, transformers.SiglipVisionModel, "pixel_values"),
    ):
        folder = tmp_path / name
        writer = ours if prefixed else kind.from_pretrained(tiny, dtype=torch.float32)
        writer.save_pretrained(folder)
        theirs = kind.from_pretrained(folder, dtype=torch.float32).eval()
        again = load_tower(folder, "text" if name == "input_ids" else "vision")
        with torch.no_grad():
            mine, wanted, reread = (model(given[name]) for model in (ours, theirs, again))
        close(f"standalone {name} hidden", mine.last_hidden_state, wanted.last_hidden_state, HIDDEN)
        close(f"standalone {name} pooled", mine.pooler_output, wanted.pooler_output, HIDDEN)
        assert torch.equal(reread.pooler_output, mine.pooler_output)


@pytest.mark.parity(row="Precision")
@pytest.mark.parametrize(("dtype", "cosine"), [(torch.bfloat16, 0.9998), (torch.float16, 0.99999)])
@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
def test_half_precision_keeps_directions(
    checkpoints: dict[str, Path], attention: str, dtype: torch.dtype, cosine: float, close: Compare
) -> None:
    for folder in checkpoints.values():
        ours = SiglipModel.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
        given = inputs(ours)
        half, full = stages(ours, given), stages(reference(folder), given)
        for stage in ("text_embeds", "image_embeds"):
            assert half[stage].dtype == torch.float32  # unit vectors and logits are never half
            away = 1 - (half[stage].double() * full[stage].double()).sum(-1)
            close(
                f"{str(dtype)[6:]} {attention}, 1 - cosine of {stage}",
                away,
                torch.zeros_like(away),
                1 - cosine,
            )


def test_starting_weights_are_distributed_as_the_reference_s() -> None:
    """Same mean and deviation for every tensor; the tolerance is what two draws of it differ by."""
    text = {"vocab_size": 512, "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 1}
    vision = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 1, "image_size": 64}
    torch.manual_seed(0)
    ours = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).state_dict()  # type: ignore[arg-type]
    theirs = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=vision)
    ).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tensor.shape
        if tensor.numel() > 1:
            noise = 5 / tensor.numel() ** 0.5
            deviation = tensor.std()
            assert abs(ours[name].mean() - tensor.mean()) <= noise * deviation + 1e-12, name
            assert abs(ours[name].std() - deviation) <= noise * deviation, name
        else:
            assert ours[name] == tensor, name


@pytest.mark.parity(row="Checkpoints")
def test_own_weights_are_read_by_transformers(tiny: Path, tmp_path: Path, close: Compare) -> None:
    ours = SiglipModel.from_pretrained(tiny)
    ours.save_pretrained(tmp_path)
    given = inputs(ours)
    with torch.no_grad():
        mine, theirs = ours(**given), reference(tmp_path)(**given)
    close("logits after save_pretrained", mine.logits_per_text, theirs.logits_per_text, LOGITS)


@pytest.mark.slow
@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("name", "text", "vision"),
    [
        ("base-patch16-224", BASE, BASE | {"image_size": 224, "patch_size": 16}),
        ("one so400m layer", SO400M, SO400M | {"image_size": 84, "patch_size": 14}),
    ],
)
def test_full_width(
    tmp_path: Path, name: str, text: dict[str, int], vision: dict[str, int], attention: str, close: Compare
) -> None:
    write_tiny_checkpoint(tmp_path, text=text, vision=vision)
    ours = SiglipModel.from_pretrained(tmp_path, attn_implementation=attention)
    given = inputs(ours)
    mine, theirs = stages(ours, given), stages(reference(tmp_path, attention), given)
    for stage, value in theirs.items():
        close(f"{name} {attention} {label(stage)}", mine[stage], value, tolerance(stage))
