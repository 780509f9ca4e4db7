"""The JSON files of a tokenizer, in the layouts of Transformers 4 and 5."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siglip_model.files import SPECIAL_TOKENS, TOKENIZER_CONFIG, CheckpointError, read_json, write_json

ADDED_TOKENS = "added_tokens.json"
PLAIN_SETTINGS = (
    "model_max_length",
    "do_lower_case",
    "split_special_tokens",
    "model_input_names",
    "sp_model_kwargs",
    "padding_side",
)
TOKEN_SETTINGS = ("eos_token", "unk_token", "pad_token")
KINDS: dict[str, type | tuple[type, ...]] = {
    "model_max_length": (int, float),
    "do_lower_case": bool,
    "split_special_tokens": bool,
    "model_input_names": list,
    "sp_model_kwargs": dict,
    "padding_side": str,
}
MAX_LENGTH = 1_000_000  # files say 1e30 for "not told"
TRAINED_LENGTH = 64


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """Arguments of the tokenizer's constructor. Raises CheckpointError."""
    values = read_json(folder / SPECIAL_TOKENS) | read_json(folder / TOKENIZER_CONFIG)
    known = {name: values[name] for name in PLAIN_SETTINGS if values.get(name) is not None}
    known |= {name: _content(values[name]) for name in TOKEN_SETTINGS if values.get(name) is not None}
    for name, value in known.items():
        if not isinstance(value, KINDS.get(name, str)):
            raise CheckpointError(f"{folder / TOKENIZER_CONFIG}: {name} is {value!r}, of the wrong kind")
    length = known.get("model_max_length", TRAINED_LENGTH)
    if not length >= 1:
        raise CheckpointError(
            f"{folder / TOKENIZER_CONFIG}: model_max_length is {length} and must be above 0"
        )
    known["model_max_length"] = int(length) if length <= MAX_LENGTH else TRAINED_LENGTH
    extra = values.get("additional_special_tokens") or values.get("extra_special_tokens") or []
    if not isinstance(extra, list):
        raise CheckpointError(f"{folder / TOKENIZER_CONFIG}: additional_special_tokens must be a list")
    added = read_json(folder / ADDED_TOKENS) or _decoded(folder, values.get("added_tokens_decoder") or {})
    return known | {"additional_special_tokens": [_content(token) for token in extra], "added_tokens": added}


def _decoded(folder: Path, entries: Any) -> dict[str, int]:
    try:
        return {_content(token): int(index) for index, token in entries.items()}
    except (AttributeError, ValueError) as error:
        raise CheckpointError(f"{folder / TOKENIZER_CONFIG}: added_tokens_decoder: {error}") from None


def write_tokenizer(
    folder: Path,
    special: Mapping[str, Any],
    decoder: Mapping[int, Mapping[str, Any]],
    added: Mapping[str, int],
    settings: Mapping[str, Any],
) -> None:
    """`decoder` has the entry of every token that is never taken apart, `added` the new ones among them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "added_tokens_decoder": {str(index): dict(entry) for index, entry in sorted(decoder.items())},
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": False,
        "processor_class": "SiglipProcessor",
        "tokenizer_class": "SiglipTokenizer",
    }
    write_json(folder / TOKENIZER_CONFIG, dict(sorted((config | dict(special) | dict(settings)).items())))
    entries = {
        name: value if isinstance(value, list) else _without_kind(added_token(value, special=True))
        for name, value in special.items()
    }
    write_json(folder / SPECIAL_TOKENS, dict(sorted(entries.items())))
    (folder / ADDED_TOKENS).unlink(missing_ok=True)
    if added:
        write_json(folder / ADDED_TOKENS, added)


def added_token(token: str, *, special: bool) -> dict[str, Any]:
    return {
        "content": token,
        "lstrip": special,
        "normalized": not special,
        "rstrip": special,
        "single_word": False,
        "special": special,
    }


def _without_kind(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "special"}


def _content(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)
