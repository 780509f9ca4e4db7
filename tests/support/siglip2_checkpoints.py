"""Tiny random SigLIP 2 checkpoints: fixed resolution, and NaFlex. Made without torch."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from tests.support.checkpoints import TEXT, VISION, corpus, random_weights, write_tiny_checkpoint

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
# The model's own spelling of turns and spaces: tokens that are added and not called special.
ADDED = ["<mask>", "<unused0>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "▁▁", "▁▁▁", "<table>"]
NAFLEX_VISION = {
    "model_type": "siglip2_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_patches": 16,
    "patch_size": 4,
}


def write_fixed_checkpoint(folder: Path | str, seed: int = 0, **shape: Any) -> Path:
    """SigLIP 2 of one resolution: `model_type` siglip, the Gemma tokenizer, bilinear pictures."""
    folder = Path(folder)
    vocabulary = Tokenizer.from_str(tokenizer_json()).get_vocab_size()
    text = {"vocab_size": vocabulary} | shape.pop("text", {})
    write_tiny_checkpoint(folder, seed, text=text, **shape)
    for name in ("spiece.model", "special_tokens_map.json"):
        (folder / name).unlink()
    write_tokenizer_files(folder)
    path = folder / "preprocessor_config.json"
    _write_json(path, json.loads(path.read_text()) | {"resample": 2})
    return folder


def write_naflex_checkpoint(
    folder: Path | str,
    seed: int = 0,
    *,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    max_num_patches: int = 24,
) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = Tokenizer.from_str(tokenizer_json()).get_vocab_size()
    text_config = TEXT | {"model_type": "siglip2_text_model", "vocab_size": vocabulary} | (text or {})
    vision_config = NAFLEX_VISION | (vision or {})
    config = {
        "architectures": ["Siglip2Model"],
        "model_type": "siglip2",
        "initializer_factor": 1.0,
        "text_config": text_config,
        "vision_config": vision_config,
        "torch_dtype": "float32",
    }
    _write_json(folder / "config.json", config)
    weights = naflex_weights(text_config, vision_config, seed)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer_files(folder, "Siglip2Processor")
    _write_json(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Siglip2ImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "max_num_patches": max_num_patches,
            "patch_size": vision_config["patch_size"],
            "processor_class": "Siglip2Processor",
            "resample": 2,
            "rescale_factor": 1 / 255,
        },
    )
    return folder


def naflex_weights(text: dict[str, Any], vision: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """As of a fixed model, but the patch embedding is a matrix over (row, column, colour)."""
    side = int(vision["num_patches"] ** 0.5) * vision["patch_size"]
    weights = random_weights(text, VISION | vision | {"image_size": side}, seed)
    name = "vision_model.embeddings.patch_embedding.weight"
    weights[name] = np.ascontiguousarray(weights[name].transpose(0, 2, 3, 1).reshape(len(weights[name]), -1))
    return weights


def write_tokenizer_files(folder: Path, processor_class: str = "SiglipProcessor") -> None:
    """As the published checkpoints have them."""
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    decoder = {str(index): dict(_entry(token)) for index, token in enumerate(CONTROL + ADDED)}
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_eos_token": True,
            "added_tokens_decoder": decoder,
            "additional_special_tokens": [],
            "bos_token": "<bos>",
            "clean_up_tokenization_spaces": False,
            "do_lower_case": True,
            "eos_token": "<eos>",
            "extra_special_tokens": {},
            "model_input_names": ["input_ids"],
            "model_max_length": 1000000000000000019884624838656,
            "pad_token": "<pad>",
            "padding_side": "right",
            "processor_class": processor_class,
            "sp_model_kwargs": {},
            "spaces_between_special_tokens": False,
            "tokenizer_class": "GemmaTokenizer",
            "unk_token": "<unk>",
            "use_default_system_prompt": False,
        },
    )


def _entry(token: str) -> Iterator[tuple[str, Any]]:
    yield "content", token
    yield from {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}.items()
    yield "special", token in CONTROL


@cache
def tokenizer_json() -> str:
    """A BPE with byte fallback, laid out as Gemma's: control tokens 0 to 3, added ones, bytes, merges."""
    begun = Tokenizer(BPE(unk_token="<unk>"))
    begun.normalizer = normalizers.Replace(" ", "▁")
    begun.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    numbered = CONTROL + ADDED + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(vocab_size=700, special_tokens=numbered, show_progress=False)
    begun.train_from_iterator([line + " A" for line in corpus()], trainer)
    learned = json.loads(begun.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    model = BPE(learned["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B:1 <eos>:1", special_tokens=[("<eos>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED])
    return str(tokenizer.to_str())


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
