"""Tiny random SigLIP checkpoints in the Hugging Face layout, made without torch in milliseconds.

Names and shapes are written out here on purpose, not taken from the model's code: they are what
published checkpoints hold.
"""

import io
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from safetensors.numpy import save_file

LOGIT_SCALE = 4.7  # logarithm of the multiplier, near that of the published models
LOGIT_BIAS = -12.9

TEXT = {
    "model_type": "siglip_text_model",
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


def write_tiny_checkpoint(
    folder: Path | str,
    seed: int = 0,
    text_length: int = 64,
    *,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    byte_fallback: bool = False,
) -> Path:
    """A whole SigLIP of 32 px with vectors of 32 numbers; `text` and `vision` change its configuration.

    Other seeds give other weights, and so another fingerprint.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = spiece(byte_fallback)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=vocabulary).GetPieceSize()
    text_config = TEXT | {"vocab_size": pieces, "max_position_embeddings": text_length} | (text or {})
    vision_config = VISION | (vision or {})
    config = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "initializer_factor": 1.0,
        "text_config": text_config,
        "vision_config": vision_config,
        "torch_dtype": "float32",
    }
    _write_json(folder / "config.json", config)
    weights = random_weights(text_config, vision_config, seed)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, vocabulary, text_length)
    side = vision_config["image_size"]
    _write_json(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": side, "width": side},
        },
    )
    return folder


def write_tokenizer(folder: Path, vocabulary: bytes, text_length: int = 64) -> None:
    """The three tokenizer files as the published checkpoints have them."""
    (folder / "spiece.model").write_bytes(vocabulary)
    entry = {"lstrip": True, "normalized": False, "rstrip": True, "single_word": False}
    end, unknown = {"content": "</s>"} | entry, {"content": "<unk>"} | entry
    _write_json(
        folder / "special_tokens_map.json", {"eos_token": end, "pad_token": end, "unk_token": unknown}
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {"1": end | {"special": True}, "2": unknown | {"special": True}},
            "additional_special_tokens": [],
            "clean_up_tokenization_spaces": False,
            "do_lower_case": True,
            "eos_token": "</s>",
            "model_input_names": ["input_ids"],
            "model_max_length": text_length,
            "pad_token": "</s>",
            "processor_class": "SiglipProcessor",
            "sp_model_kwargs": {},
            "tokenizer_class": "SiglipTokenizer",
            "unk_token": "<unk>",
        },
    )


def random_weights(text: dict[str, Any], vision: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint; none is constant, so that leaving one out is seen."""
    draw = np.random.default_rng(seed)
    weights = {name: _random(draw, name, shape) for name, shape in tensor_shapes(text, vision)}
    weights["logit_scale"] = np.array([LOGIT_SCALE], np.float32)
    weights["logit_bias"] = np.array([LOGIT_BIAS], np.float32)
    return weights


def tensor_shapes(text: dict[str, Any], vision: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, projection = text["hidden_size"], text.get("projection_size") or text["hidden_size"]
    yield "text_model.embeddings.token_embedding.weight", (text["vocab_size"], width)
    yield "text_model.embeddings.position_embedding.weight", (text["max_position_embeddings"], width)
    yield from _encoder("text_model", text)
    yield from _norm("text_model.final_layer_norm", width)
    yield from _linear("text_model.head", width, projection)

    width, hidden, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    yield "vision_model.embeddings.patch_embedding.weight", (width, 3, patch, patch)
    yield "vision_model.embeddings.patch_embedding.bias", (width,)
    patches = (vision["image_size"] // patch) ** 2
    yield "vision_model.embeddings.position_embedding.weight", (patches, width)
    yield from _encoder("vision_model", vision)
    yield from _norm("vision_model.post_layernorm", width)
    yield "vision_model.head.probe", (1, 1, width)
    yield "vision_model.head.attention.in_proj_weight", (3 * width, width)
    yield "vision_model.head.attention.in_proj_bias", (3 * width,)
    yield from _linear("vision_model.head.attention.out_proj", width, width)
    yield from _norm("vision_model.head.layernorm", width)
    yield from _linear("vision_model.head.mlp.fc1", width, hidden)
    yield from _linear("vision_model.head.mlp.fc2", hidden, width)


def _encoder(tower: str, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, hidden = config["hidden_size"], config["intermediate_size"]
    for index in range(config["num_hidden_layers"]):
        layer = f"{tower}.encoder.layers.{index}"
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _norm(f"{layer}.layer_norm2", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{name}", width, width)
        yield from _linear(f"{layer}.mlp.fc1", width, hidden)
        yield from _linear(f"{layer}.mlp.fc2", hidden, width)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _random(draw: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = draw.standard_normal(shape).astype(np.float32)
    if len(shape) == 1:  # biases, and the weights of layer norms around 1
        return values * np.float32(0.1) + np.float32("norm" in name and name.endswith("weight"))
    if "embedding.weight" in name and "patch" not in name:
        return values * np.float32(0.5)
    return values / np.float32(np.sqrt(np.prod(shape[1:])))


@cache
def spiece(byte_fallback: bool = False) -> bytes:
    """A SentencePiece unigram model with the ids of the published ones: `</s>` 1, `<unk>` 2."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=written,
        model_type="unigram",
        vocab_size=656 if byte_fallback else 400,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        character_coverage=1.0,
        byte_fallback=byte_fallback,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


NOUNS = """
cat dog bird house tree car boat river mountain café garçon Zürich niño straße smørrebrød кошка
собака дом ένας γάτος σκύλος 猫 犬 山 東京 ねこ いぬ テスト 고양이 개
"""
COLOURS = "red green blue yellow black white große petite синий μπλε 红色 青い 빨간"
ENDS = "in the garden.|near 3 trees!|from 1999|at 25% off|(a photo)|…“quoted”|x²≠½|on a table|2048 px"


def corpus() -> list[str]:
    """A thousand short lines with accents, Greek, Cyrillic, Chinese, Japanese, Korean and digits."""
    pick = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "is")]
    return [
        f"{pick.choice(['a', 'the', 'two', 'This is a photo of', 'un', 'eine'])} "
        f"{pick.choice(COLOURS.split())} {pick.choice(NOUNS.split())} "
        f"{''.join(pick.choices(syllables, k=3))} {pick.choice(ENDS.split('|'))}"
        for _ in range(1000)
    ]


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
