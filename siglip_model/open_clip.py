"""Import of SigLIP state dicts in the layout of open_clip, and of timm for the vision tower alone.

There q, k and v are packed, the pooling head is called attn_pool, and many configurations name
exact GELU where the published weights were trained with its tanh form. An imported model computes
what that configuration says, so its numbers are those of the tool that it comes from.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from siglip_model.config import SiglipConfig, SiglipTextConfig, SiglipVisionConfig
from siglip_model.files import CheckpointError, read_json
from siglip_model.modeling import SiglipModel, SiglipVisionModel
from siglip_model.weights import opened

State = Mapping[str, Tensor]
Model = TypeVar("Model", SiglipModel, SiglipVisionModel)

# Of timm's names of vision towers: heads, and which of them use the tanh form of GELU.
HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
TANH = re.compile(r"vit_(base_patch32|large_patch16_siglip_512|so400m_patch16|giantopt)")
ARCHITECTURE = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip_(\d+)")
DEFAULT_NORM_EPS = 1e-5  # of open_clip's text towers that do not say

TRUNK = "visual.trunk."
# Names inside a block, theirs and ours; `attn.qkv` is cut in three.
VISION_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
TEXT_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
POOL = {
    "proj": "attention.out_proj",
    "norm": "layernorm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def import_open_clip(source: str | Path, config: Mapping[str, Any] | None = None) -> SiglipModel:
    """A folder or file in open_clip's layout -> a model. `config` replaces its open_clip_config.json.

    Raises CheckpointError for a layout that is not SigLIP's, or for tensors missing or left over.
    """
    source = Path(source)
    state = read_state(source)
    if config is None:
        config = read_json(source / "open_clip_config.json") if source.is_dir() else {}
    if not config:
        raise CheckpointError(f"{source} has no open_clip_config.json: give the configuration")
    return from_open_clip(state, config)


def read_state(source: Path) -> dict[str, Tensor]:
    """A safetensors file, a pickle (read with `weights_only`), or the folder that holds one of them."""
    names = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin")
    files = [source / name for name in names if (source / name).is_file()] if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise CheckpointError(f"{source} holds none of {', '.join(names)}")
    with opened(files[0]) as (shapes, read):
        return {name.removeprefix("module."): read(name) for name in shapes}


def from_open_clip(state: State, config: Mapping[str, Any]) -> SiglipModel:
    """`config` is open_clip_config.json, or the `model_cfg` in it."""
    wanted = config_from_open_clip(config, state)
    names = dict(_text(state)) | dict(_vision(state, TRUNK))
    names |= {name: state[name].reshape(1) for name in ("logit_scale", "logit_bias") if name in state}
    return _built(SiglipModel, wanted, names)


def from_timm(state: State, name: str) -> SiglipVisionModel:
    """The vision tower alone, as timm names its tensors; `name` is timm's, vit_base_patch16_siglip_224."""
    names = dict(_vision(state, ""))
    return _built(SiglipVisionModel, _vision_config(name, state, ""), names)


def config_from_open_clip(config: Mapping[str, Any], state: State) -> SiglipConfig:
    """Widths and depths are read from the tensors, the rest from the configuration."""
    values = config.get("model_cfg", config)
    try:
        text, vision = values["text_cfg"], values["vision_cfg"]
        heads, kind = int(text["heads"]), str(vision["timm_model_name"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the open_clip configuration lacks {error}: it is not a SigLIP's") from None
    if text.get("pool_type") != "last" or not text.get("no_causal_mask"):
        raise CheckpointError("the text tower is causal or does not pool its last position: not a SigLIP")
    table, inner = _tensor(state, "text.token_embedding.weight"), _tensor(state, f"{_TEXT}0.mlp.c_fc.weight")
    tanh = text.get("act_kwargs", {}).get("approximate") == "tanh"
    return SiglipConfig(
        SiglipTextConfig(
            vocab_size=table.shape[0],
            hidden_size=table.shape[1],
            intermediate_size=inner.shape[0],
            num_hidden_layers=_depth(state, _TEXT),
            num_attention_heads=heads,
            max_position_embeddings=_tensor(state, "text.positional_embedding").shape[0],
            hidden_act="gelu_pytorch_tanh" if tanh else "gelu",
            layer_norm_eps=float(text.get("norm_kwargs", {}).get("eps", DEFAULT_NORM_EPS)),
            projection_size=int(values["embed_dim"]),
        ),
        _vision_config(kind, state, TRUNK),
    )


def _vision_config(name: str, state: State, prefix: str) -> SiglipVisionConfig:
    found = ARCHITECTURE.match(name)
    if found is None:
        raise CheckpointError(f"{name} is no vision tower of a SigLIP with attention pooling")
    patches = _tensor(state, f"{prefix}patch_embed.proj.weight")
    side = math.isqrt(_tensor(state, f"{prefix}pos_embed").shape[1])
    image_size, patch = int(found[3]), patches.shape[-1]
    return SiglipVisionConfig(
        hidden_size=patches.shape[0],
        intermediate_size=_tensor(state, f"{prefix}blocks.0.mlp.fc1.weight").shape[0],
        num_hidden_layers=_depth(state, f"{prefix}blocks."),
        num_attention_heads=HEADS[found[1]],
        num_channels=patches.shape[1],
        # 378 and 384 have the same patches of 14; another size means that positions were resampled.
        image_size=image_size if image_size // patch == side else side * patch,
        patch_size=patch,
        hidden_act="gelu_pytorch_tanh" if TANH.match(name) else "gelu",
    )


_TEXT = "text.transformer.resblocks."


def _depth(state: State, prefix: str) -> int:
    return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix))


def _tensor(state: State, name: str) -> Tensor:
    if name not in state:
        raise CheckpointError(f"the state dict has no {name}: not open_clip's or timm's SigLIP layout")
    return state[name]


Named = Iterator[tuple[str, Tensor]]


def _text(state: State) -> Named:
    yield from _blocks(state, _TEXT, "text_model", TEXT_BLOCK, "attn.in_proj_")
    yield "text_model.embeddings.token_embedding.weight", _tensor(state, "text.token_embedding.weight")
    yield "text_model.embeddings.position_embedding.weight", _tensor(state, "text.positional_embedding")
    yield from _both(state, "text.ln_final", "text_model.final_layer_norm")
    yield from _projection(state)


def _projection(state: State) -> Named:
    """With a bias, without one, as a bare matrix, or not at all, which is the identity."""
    width = _tensor(state, "text.token_embedding.weight").shape[1]
    if "text.text_projection" in state:
        weight = state["text.text_projection"].t().contiguous()
    else:
        weight = state.get("text.text_projection.weight", torch.eye(width))
    yield "text_model.head.weight", weight
    yield "text_model.head.bias", state.get("text.text_projection.bias", torch.zeros(weight.shape[0]))


def _vision(state: State, prefix: str) -> Named:
    yield from _blocks(state, f"{prefix}blocks.", "vision_model", VISION_BLOCK, "attn.qkv.")
    embeddings = "vision_model.embeddings"
    yield from _both(state, f"{prefix}patch_embed.proj", f"{embeddings}.patch_embedding")
    yield f"{embeddings}.position_embedding.weight", _tensor(state, f"{prefix}pos_embed")[0]
    yield from _both(state, f"{prefix}norm", "vision_model.post_layernorm")
    pool, head = f"{prefix}attn_pool", "vision_model.head"
    yield f"{head}.probe", _tensor(state, f"{pool}.latent")
    for kind in ("weight", "bias"):
        packed = [_tensor(state, f"{pool}.{part}.{kind}") for part in ("q", "kv")]
        yield f"{head}.attention.in_proj_{kind}", torch.cat(packed)
    for theirs, ours in POOL.items():
        yield from _both(state, f"{pool}.{theirs}", f"{head}.{ours}")


def _blocks(state: State, prefix: str, tower: str, names: Mapping[str, str], packed: str) -> Named:
    for index in range(_depth(state, prefix)):
        block, layer = f"{prefix}{index}", f"{tower}.encoder.layers.{index}"
        for theirs, ours in names.items():
            yield from _both(state, f"{block}.{theirs}", f"{layer}.{ours}")
        for kind in ("weight", "bias"):
            q, k, v = _tensor(state, f"{block}.{packed}{kind}").chunk(3)
            for name, value in (("q_proj", q), ("k_proj", k), ("v_proj", v)):
                yield f"{layer}.self_attn.{name}.{kind}", value


def _both(state: State, theirs: str, ours: str) -> Named:
    for kind in ("weight", "bias"):
        yield f"{ours}.{kind}", _tensor(state, f"{theirs}.{kind}")


def _built(kind: Callable[[Any], Model], config: Any, names: Mapping[str, Tensor]) -> Model:
    with torch.device("meta"):
        model = kind(config)
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ names.keys()) or [
        f"{name} {list(names[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if names[name].shape != expected[name].shape
    ]
    if wrong:
        raise CheckpointError(f"the state dict does not fit its configuration: {', '.join(wrong[:8])}")
    model.load_state_dict({name: tensor.float() for name, tensor in names.items()}, assign=True)
    return model.eval()
