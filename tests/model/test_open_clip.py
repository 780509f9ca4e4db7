"""State dicts of open_clip and timm: against what open_clip 3.3.0 computed, and every way they differ."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from siglip_model import CheckpointError, SiglipModel, SiglipProcessor, import_open_clip
from siglip_model.conversion import convert
from siglip_model.open_clip import config_from_open_clip, from_open_clip, from_timm
from tests.model.conftest import Compare
from tests.model.reference import EMBEDS, LOGITS

pytestmark = pytest.mark.parity(row="Imports", against="open_clip 3.3.0, recorded")

GOLDEN = dict(np.load(Path(__file__).parent / "goldens" / "open_clip.npz"))
CONFIG: dict[str, Any] = json.loads(str(GOLDEN["config"]))


@pytest.fixture
def state() -> dict[str, Tensor]:
    stored = {name: value for name, value in GOLDEN.items() if name.startswith("state/")}
    return {name.removeprefix("state/"): torch.from_numpy(value).float() for name, value in stored.items()}


def pixels() -> Tensor:
    grid = torch.arange(2 * 3 * 224 * 224, dtype=torch.float64).reshape(2, 3, 224, 224)
    return torch.sin(grid * 0.37).float()


def changed(**text: Any) -> dict[str, Any]:
    return CONFIG | {"text_cfg": CONFIG["text_cfg"] | text}


@torch.no_grad()
def test_embeddings_and_logits(state: dict[str, Tensor], close: Compare) -> None:
    model = from_open_clip(state, {"model_cfg": CONFIG})
    output = model(torch.from_numpy(GOLDEN["input_ids"]), pixels())
    close("imported image_embeds", output.image_embeds, GOLDEN["image_embeds"], EMBEDS)
    close("imported text_embeds", output.text_embeds, GOLDEN["text_embeds"], EMBEDS)
    close("imported logits", output.logits_per_image, GOLDEN["logits"], LOGITS)
    # The other form of GELU is a difference that is seen.
    tanh = from_open_clip(state, changed(act_kwargs={"approximate": "tanh"}))
    assert tanh.config.text_config.hidden_act == "gelu_pytorch_tanh"
    other = tanh.get_text_features(torch.from_numpy(GOLDEN["input_ids"]), normalize=True)
    assert (other - torch.from_numpy(GOLDEN["text_embeds"])).abs().max() > 10 * EMBEDS


@torch.no_grad()
def test_the_vision_tower_alone_as_timm_names_it(state: dict[str, Tensor], close: Compare) -> None:
    prefix = "visual.trunk."
    trunk = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    model = from_timm(trunk, "vit_base_patch16_siglip_224.webli")
    vectors = torch.nn.functional.normalize(model(pixels()).pooler_output)
    close("imported timm tower", vectors, GOLDEN["image_embeds"], EMBEDS)


@pytest.mark.parametrize(
    ("name", "heads", "act", "size"),
    [
        ("vit_base_patch16_siglip_224", 12, "gelu", 224),
        ("vit_base_patch32_siglip_256", 12, "gelu_pytorch_tanh", 448),
        ("vit_large_patch16_siglip_256", 16, "gelu", 224),
        ("vit_large_patch16_siglip_512", 16, "gelu_pytorch_tanh", 224),
        ("vit_so400m_patch14_siglip_384", 16, "gelu", 224),
        ("vit_so400m_patch16_siglip_256", 16, "gelu_pytorch_tanh", 224),
        ("vit_giantopt_patch16_siglip_384", 16, "gelu_pytorch_tanh", 224),
    ],
)
def test_what_timm_s_names_mean(state: dict[str, Tensor], name: str, heads: int, act: str, size: int) -> None:
    values = CONFIG | {"vision_cfg": {"timm_model_name": name}}
    if "patch32" in name:
        state["visual.trunk.patch_embed.proj.weight"] = torch.zeros(24, 3, 32, 32)
    vision = config_from_open_clip(values, state).vision_config
    assert (vision.num_attention_heads, vision.hidden_act, vision.image_size) == (heads, act, size)


def test_patches_that_do_not_fill_the_picture(state: dict[str, Tensor]) -> None:
    """so400m at 384: 27 patches of 14 are 378 pixels, and the rest is left out."""
    state["visual.trunk.patch_embed.proj.weight"] = torch.zeros(24, 3, 14, 14)
    state["visual.trunk.pos_embed"] = torch.zeros(1, 27 * 27, 24)
    values = CONFIG | {"vision_cfg": {"timm_model_name": "vit_so400m_patch14_siglip_384"}}
    assert config_from_open_clip(values, state).vision_config.image_size == 384


@torch.no_grad()
def test_forms_of_the_text_projection(state: dict[str, Tensor]) -> None:
    ids = torch.from_numpy(GOLDEN["input_ids"])
    weight, bias = state.pop("text.text_projection.weight"), state.pop("text.text_projection.bias")
    pooled = from_open_clip(state, CONFIG).get_text_features(ids)  # none: the identity
    matrix = from_open_clip(state | {"text.text_projection": weight.t()}, CONFIG).get_text_features(ids)
    torch.testing.assert_close(matrix, pooled @ weight.t(), rtol=0, atol=1e-5)
    both = state | {"text.text_projection.weight": weight, "text.text_projection.bias": bias}
    torch.testing.assert_close(
        from_open_clip(both, CONFIG).get_text_features(ids), matrix + bias, rtol=0, atol=1e-5
    )


def test_refusals(state: dict[str, Tensor], tmp_path: Path) -> None:
    for values, said in (
        (changed(pool_type="argmax"), "is causal or does not pool its last position"),
        (changed(no_causal_mask=False), "is causal or does not pool its last position"),
        ({"embed_dim": 3}, "lacks 'text_cfg'"),
        (
            CONFIG | {"vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_gap_224"}},
            "attention pooling",
        ),
        (CONFIG | {"embed_dim": 25}, r"head\.weight \[24, 24\], not \[25, 24\]"),
    ):
        with pytest.raises(CheckpointError, match=said):
            from_open_clip(state, values)
    with pytest.raises(CheckpointError, match=r"has no visual\.trunk\.norm\.weight"):
        from_open_clip({k: v for k, v in state.items() if k != "visual.trunk.norm.weight"}, CONFIG)
    with pytest.raises(CheckpointError, match="does not fit its configuration: logit_bias"):
        from_open_clip({k: v for k, v in state.items() if k != "logit_bias"}, CONFIG)
    with pytest.raises(CheckpointError, match="holds none of open_clip_model"):
        import_open_clip(tmp_path)


@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_converted_folders(
    state: dict[str, Tensor], tmp_path: Path, tiny: Path, form: str, close: Compare
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    preprocess = {"interpolation": "bilinear", "resize_mode": "squash", "mean": [0.4, 0.5, 0.6]}
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (source / "open_clip_config.json").write_text(json.dumps(config))
    if form == "pickle":
        torch.save(state, source / "open_clip_pytorch_model.bin")
    else:
        save_file(state, source / "open_clip_model.safetensors")
    shutil.copy(tiny / "spiece.model", source)
    convert(source, target)
    model, processor = SiglipModel.from_pretrained(target), SiglipProcessor.from_pretrained(target)
    with torch.no_grad():
        vectors = model.get_image_features(pixels(), normalize=True)
    close("converted folder, image_embeds", vectors, GOLDEN["image_embeds"], EMBEDS)
    assert (processor.image_processor.resample, processor.image_processor.image_mean[0]) == (2, 0.4)
    with pytest.raises(CheckpointError, match="is not empty"):
        convert(source, target)


def test_pickled_folders_are_converted(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    (source / "model.safetensors").unlink()
    model = SiglipModel.from_pretrained(tiny)
    torch.save(model.half().state_dict(), source / "pytorch_model.bin")
    convert(source, tmp_path / "target")
    again = SiglipModel.from_pretrained(tmp_path / "target", torch_dtype="auto")
    assert again.dtype == torch.float16
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert SiglipProcessor.from_pretrained(tmp_path / "target")("a cat").input_ids.shape[0] == 1
    with pytest.raises(CheckpointError, match="has neither"):
        convert(tmp_path, tmp_path / "other")
