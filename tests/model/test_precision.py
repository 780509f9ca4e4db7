"""Half precision, autocast, compile and export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from siglip_model import SiglipModel, SiglipTextModel, SiglipVisionModel
from tests.model.reference import inputs

pytestmark = pytest.mark.parity(row="Precision", against="our own float32")

HALVES = [(torch.bfloat16, 0.9998), (torch.float16, 0.99999)]


def run(model: nn.Module, **given: Any) -> Any:
    with torch.no_grad():
        return model(**given)


@pytest.mark.parametrize(("dtype", "cosine"), HALVES)
def test_autocast_keeps_directions_and_logits_in_float32(
    tiny: Path, dtype: torch.dtype, cosine: float
) -> None:
    model = SiglipModel.from_pretrained(tiny)
    given = inputs(model.config)
    full = run(model, **given)
    with torch.autocast("cpu", dtype):
        half = run(model, **given)
    assert half.text_model_output.pooler_output.dtype == dtype  # autocast did happen
    for name in ("text_embeds", "image_embeds"):
        assert half[name].dtype == torch.float32
        assert (half[name] * full[name]).sum(-1).min() > cosine
    again = model.logits(half.text_embeds, half.image_embeds)
    assert half.logits_per_text.dtype == torch.float32
    assert torch.equal(half.logits_per_text, again.detach())


@pytest.mark.parametrize("dtype", [dtype for dtype, _ in HALVES])
def test_the_multiplier_is_not_rounded_in_half_precision(tiny: Path, dtype: torch.dtype) -> None:
    """exp(4.7) is 109.9472 and as a bfloat16 it would be 110; the parameter itself is rounded once."""
    model = SiglipModel.from_pretrained(tiny, torch_dtype=dtype)
    x = torch.eye(2, 32)
    z = model.logits(x, x).detach()
    multiplier = model.logit_scale.detach().float().exp()
    assert z[0, 0] - z[0, 1] == multiplier
    assert multiplier != multiplier.to(dtype)


def test_the_loss_is_float32_under_autocast(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    given = inputs(model.config, texts=4, images=4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**given, return_loss=True).loss
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("asked", "got"), [(None, torch.float32), ("float16", torch.float16), ("auto", torch.bfloat16)]
)
def test_dtype_of_loading(tiny: Path, tmp_path: Path, asked: str | None, got: torch.dtype) -> None:
    SiglipModel.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(tmp_path)
    model = SiglipModel.from_pretrained(tmp_path, torch_dtype=asked)
    assert model.dtype == got and model.device == torch.device("cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {got}


@pytest.mark.parametrize("asked", ["int8", "half-ish"])
def test_an_unusable_dtype(tiny: Path, asked: str) -> None:
    with pytest.raises(ValueError, match=f"torch_dtype must be .* not '{asked}'"):
        SiglipModel.from_pretrained(tiny, torch_dtype=asked)


@pytest.mark.parametrize("place", ["cpu", "auto", -1, {"": "cpu"}, torch.device("cpu")])
def test_devices(tiny: Path, place: Any) -> None:
    kind = SiglipTextModel.from_pretrained(tiny, device_map=place).device.type
    assert kind == "cpu" or place == "auto"


def test_a_model_is_not_split_over_devices(tiny: Path) -> None:
    with pytest.raises(ValueError, match="device_map must name one device for the whole model"):
        SiglipModel.from_pretrained(tiny, device_map={"text_model": 0, "vision_model": 1})


def tower(kind: str, folder: Path, batch: int) -> tuple[nn.Module, torch.Tensor]:
    given = inputs(SiglipModel.from_pretrained(folder).config, texts=batch, images=batch)
    if kind == "text":
        return SiglipTextModel.from_pretrained(folder), given["input_ids"]
    return SiglipVisionModel.from_pretrained(folder), given["pixel_values"]


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_compiled_without_a_graph_break(tiny: Path, kind: str) -> None:
    model, x = tower(kind, tiny, 2)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        mine, wanted = compiled(x), model(x)
    torch.testing.assert_close(mine.pooler_output, wanted.pooler_output, rtol=0, atol=2e-5)
    torch.testing.assert_close(mine.last_hidden_state, wanted.last_hidden_state, rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "vision"])
def test_compiled_by_inductor(tiny: Path, kind: str) -> None:
    """Needs a C++ compiler."""
    model, x = tower(kind, tiny, 2)
    with torch.no_grad():
        mine = torch.compile(model, fullgraph=True)(x)
        torch.testing.assert_close(mine.pooler_output, model(x).pooler_output, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_exported_for_any_batch_size(tiny: Path, kind: str) -> None:
    model, x = tower(kind, tiny, 3)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    _, other = tower(kind, tiny, 5)
    with torch.no_grad():
        mine, wanted = program.module()(other), model(other)
    torch.testing.assert_close(mine.pooler_output, wanted.pooler_output, rtol=0, atol=2e-5)
