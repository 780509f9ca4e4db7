"""The implementations of attention: which is chosen, what each refuses, and that all agree."""

import logging
import sys
from pathlib import Path

import pytest
import torch

from siglip_model import SiglipModel, SiglipTextModel, SiglipVisionConfig, SiglipVisionModel
from siglip_model.attention import FLASH, choose_attention
from tests.model.reference import inputs
from tests.support import flash_attn_stand_in

pytestmark = pytest.mark.parity(row="Attention", against="our own eager attention")

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def flash_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], torch.dtype]]:
    return flash_attn_stand_in.install(monkeypatch)


@pytest.fixture
def no_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", ["tiny", "head_72"])
def test_flash_gives_the_vectors_of_eager(
    checkpoints: dict[str, Path], flash_calls: list[object], shape: str, dtype: torch.dtype
) -> None:
    folder = checkpoints[shape]
    flash = SiglipModel.from_pretrained(folder, torch_dtype=dtype, attn_implementation=FLASH)
    eager = SiglipModel.from_pretrained(folder, torch_dtype=dtype, attn_implementation="eager")
    given = inputs(flash.config)
    with torch.no_grad():
        mine, wanted = flash(**given), eager(**given)
    for name in ("text_embeds", "image_embeds"):
        assert (mine[name] * wanted[name]).sum(-1).min() > 0.9998, name
    vision = flash.config.vision_config
    heads = vision.num_attention_heads
    assert flash_calls[0] == ((2, 16, heads, vision.hidden_size // heads), dtype)
    assert len(flash_calls) == 5  # 2 vision layers and 3 of text; the pooling head is always eager


def test_flash_under_autocast(tiny: Path, flash_calls: list[tuple[object, torch.dtype]]) -> None:
    model = SiglipModel.from_pretrained(tiny, attn_implementation=FLASH)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(**inputs(model.config))
    assert {dtype for _, dtype in flash_calls} == {torch.bfloat16}


def test_flash_in_float32_is_refused(tiny: Path, flash_calls: list[object]) -> None:
    model = SiglipVisionModel.from_pretrained(tiny, attn_implementation=FLASH)
    with pytest.raises(ValueError, match=r"float16 or bfloat16, not in float32.*torch_dtype"):
        model(torch.zeros(1, 3, 32, 32))
    assert not flash_calls


def test_flash_refuses_a_mask_with_zeros(tiny: Path, flash_calls: list[object]) -> None:
    model = SiglipTextModel.from_pretrained(tiny, torch_dtype="bfloat16", attn_implementation=FLASH)
    ids = torch.full((2, 64), 5)
    mask = torch.ones_like(ids)
    with torch.no_grad():
        assert torch.equal(model(ids, mask).pooler_output, model(ids).pooler_output)
        mask[1, 60:] = 0
        with pytest.raises(ValueError, match=f"attention_mask has zeros, which {FLASH} cannot follow"):
            model(ids, mask)


def test_flash_falls_back_to_eager_for_weights(tiny: Path, flash_calls: list[object]) -> None:
    model = SiglipVisionModel.from_pretrained(tiny, torch_dtype="float16", attn_implementation=FLASH)
    with pytest.warns(UserWarning, match=f"{FLASH} gives no attention weights"):
        output = model(torch.zeros(1, 3, 32, 32), output_attentions=True)
    assert len(output.attentions) == 2 and not flash_calls


def test_flash_without_its_package(tiny: Path, no_flash: None) -> None:
    with pytest.raises(ImportError, match=r"pip install 'siglip\[flash\]'"):
        SiglipModel.from_pretrained(tiny, attn_implementation=FLASH)


def test_flash_with_heads_its_kernel_lacks(flash_calls: list[object]) -> None:
    config = SiglipVisionConfig(hidden_size=520, num_attention_heads=2, num_hidden_layers=1)
    with pytest.raises(ValueError, match="at most 256 numbers, this model's have 260: use sdpa"):
        SiglipVisionModel(config, attn_implementation=FLASH)


def test_an_unknown_implementation(tiny: Path) -> None:
    with pytest.raises(ValueError, match="one of eager, sdpa, flash_attention_2, auto, not 'xformers'"):
        SiglipModel.from_pretrained(tiny, attn_implementation="xformers")


@pytest.mark.parametrize(
    ("dtype", "device", "head_dims", "chosen"),
    [
        (torch.bfloat16, CUDA, [64, 64], FLASH),
        (torch.float16, CUDA, [72], FLASH),
        (torch.float32, CUDA, [64], "sdpa"),
        (torch.bfloat16, CPU, [64], "sdpa"),
        (torch.bfloat16, CUDA, [64, 264], "sdpa"),
    ],
)
def test_auto_takes_flash_where_it_runs(
    dtype: torch.dtype,
    device: torch.device,
    head_dims: list[int],
    chosen: str,
    flash_calls: list[object],
) -> None:
    assert choose_attention("auto", dtype, device, head_dims) == chosen


def test_auto_without_the_package(no_flash: None) -> None:
    assert choose_attention("auto", torch.bfloat16, CUDA, [64]) == "sdpa"


def test_the_default_is_sdpa_and_may_be_changed(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    given = inputs(model.config)
    assert model.attn_implementation == "sdpa"
    with torch.no_grad():
        before = model(**given).logits_per_image
        model.set_attn_implementation("eager")
        after = model(**given).logits_per_image
    assert model.attn_implementation == model.text_model.encoder.implementation == "eager"
    torch.testing.assert_close(after, before, rtol=0, atol=5e-5)


def test_auto_says_what_it_took(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "siglip_model"):
        model = SiglipModel.from_pretrained(tiny, attn_implementation="auto")
    assert model.attn_implementation == "sdpa"
    assert "attn_implementation auto is sdpa for torch.float32 on cpu" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [64, 72, 96])
def test_sdpa_runs_flash_kernels_on_cuda(head_dim: int, dtype: torch.dtype) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from siglip_model.attention import eager_attention, sdpa_attention

    q, k, v = torch.randn(3, 2, 4, 196, head_dim, device="cuda", dtype=dtype)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises where no flash kernel takes these
        y = sdpa_attention(q, k, v, None, 0.0)
    torch.testing.assert_close(y, eager_attention(q, k, v, None, 0.0), rtol=0, atol=2e-2)
