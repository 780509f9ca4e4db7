"""Text to token ids as SigLIP 2 was trained: lower case, then Gemma's pieces, then the end of text.

Punctuation stays, unlike in the first SigLIP. Control tokens written in a text are control tokens in
`__call__`, as in the reference, and plain text in `encode_batch`, which is what a server needs.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE

from siglip_model.files import (
    PROCESSING_FILES,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    CheckpointError,
    hub_options,
    read_json,
    require,
    resolve,
    write_json,
)
from siglip_model.siglip2.control_tokens import without_control_tokens
from siglip_model.tokenizer import encodable
from siglip_model.tokenizer_calls import Side, TokenizerCalls

TRAINED_LENGTH = 64
# Published files say 1e30 for "no limit", under which `padding="max_length"` would pad nothing.
NO_LENGTH = 1_000_000
SETTINGS = ("do_lower_case", "model_input_names", "model_max_length", "padding_side", "split_special_tokens")
TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class Siglip2Tokenizer(TokenizerCalls):
    def __init__(
        self,
        tokenizer_file: str | Path,
        *,
        do_lower_case: bool = True,
        model_max_length: int = TRAINED_LENGTH,
        padding_side: Side = "right",
        model_input_names: Sequence[str] = ("input_ids", "attention_mask"),
        split_special_tokens: bool = False,
        bos_token: str = "<bos>",
        eos_token: str = "<eos>",
        pad_token: str = "<pad>",
        unk_token: str = "<unk>",
        additional_special_tokens: Sequence[str] = (),
    ) -> None:
        """`do_lower_case=False` gives the ids of the reference's GemmaTokenizerFast, which never lowers."""
        self.vocab_file = Path(tokenizer_file)
        self.do_lower_case = do_lower_case
        self.model_max_length = model_max_length if model_max_length <= NO_LENGTH else TRAINED_LENGTH
        self.padding_side = padding_side
        self.model_input_names = list(model_input_names)
        self.split_special_tokens = split_special_tokens
        self.bos_token, self.eos_token = bos_token, eos_token
        self.pad_token, self.unk_token = pad_token, unk_token
        self.additional_special_tokens = list(additional_special_tokens)
        self._json = _read(self.vocab_file)
        missing = [token for token in self.all_special_tokens if self._tokenizer.token_to_id(token) is None]
        if missing:
            raise CheckpointError(f"{tokenizer_file} lacks the tokens {', '.join(missing)}")
        self.bos_token_id, self.eos_token_id = map(self.convert_tokens_to_ids, (bos_token, eos_token))
        self.pad_token_id, self.unk_token_id = map(self.convert_tokens_to_ids, (pad_token, unk_token))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """Reads control tokens where they are written."""
        return _built(self._json, self.do_lower_case)

    @cached_property
    def _plain(self) -> Tokenizer:
        """Takes control tokens for text."""
        return _built(without_control_tokens(self._json), self.do_lower_case)

    @property
    def all_special_tokens(self) -> list[str]:
        named = (self.bos_token, self.eos_token, self.unk_token, self.pad_token)
        return list(dict.fromkeys([*named, *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:  # type: ignore[override]
        return self.convert_tokens_to_ids(self.all_special_tokens)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        names = {name: getattr(self, name) for name in TOKENS}
        added = {"additional_special_tokens": self.additional_special_tokens}
        return names | (added if self.additional_special_tokens else {})

    @property
    def vocab_size(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode_batch(
        self, texts: Sequence[str], length: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Token ids [n, length], padded, and which texts [n] had more tokens than fit.

        A text too long loses its last tokens and still ends with the end token. `<eos>`, `<pad>` or
        `<start_of_turn>` written by a user are text like any other.
        """
        ids = np.full((len(texts), length), self.pad_token_id, dtype=np.int32)
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for index, text in enumerate(texts):
            tokens = self._encode(self._plain, text)
            kept = tokens[: length - 1]
            ids[index, : len(kept)] = kept
            ids[index, len(kept)] = self.eos_token_id
            truncated[index] = len(tokens) >= length
        return ids, truncated

    def text_ids(self, text: str) -> list[int]:
        return self._encode(self._plain if self.split_special_tokens else self._tokenizer, text)

    def _encode(self, tokenizer: Tokenizer, text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(encodable(text), add_special_tokens=False).ids
        return ids

    def tokenize(self, text: str) -> list[str]:
        """Pieces of one text; special tokens written in it stay whole."""
        return self.pieces(self.text_ids(text))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary piece of each id."""
        return [self.convert_ids_to_tokens(int(index)) for index in ids]

    def build_inputs_with_special_tokens(self, ids: list[int], pair: list[int] | None = None) -> list[int]:
        """A <eos>, or A <eos> B <eos>; unlike in the first SigLIP an end token is doubled."""
        ended = [*ids, self.eos_token_id]
        return ended if pair is None else [*ended, *pair, self.eos_token_id]

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        """The id of one piece, or of the unknown token; or of each."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        index = self._tokenizer.token_to_id(tokens)
        return self.convert_tokens_to_ids(self.unk_token) if index is None else int(index)

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Iterable[int], skip_special_tokens: bool = False) -> list[str]: ...
    def convert_ids_to_tokens(
        self, ids: int | Iterable[int], skip_special_tokens: bool = False
    ) -> str | list[str]:
        """The piece of one id, or of each."""
        if isinstance(ids, Iterable):
            special = self.all_special_tokens if skip_special_tokens else []
            return [token for token in self.pieces(ids) if token not in special]
        token = self._tokenizer.id_to_token(ids) if ids >= 0 else None
        if token is None:
            raise ValueError(f"token id {ids} is not in the vocabulary of {len(self)}")
        return str(token)

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        return str(self._tokenizer.decoder.decode(list(tokens)))

    def get_vocab(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())

    def decode(
        self, ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """Text of one row of ids (list, array or tensor)."""
        row = np.asarray(ids).reshape(-1).tolist()
        if skip_special_tokens:
            special = set(self.all_special_ids)
            row = [index for index in row if index not in special]
        return str(self._tokenizer.decode(row, skip_special_tokens=skip_special_tokens))

    @classmethod
    def from_pretrained(cls, model: str | Path, **overrides: Any) -> Self:
        """`model` is a folder or a hub id; `overrides` replace what its files say."""
        folder = resolve(model, only=PROCESSING_FILES, **hub_options(overrides)).folder
        require(folder, TOKENIZER_JSON)
        values = read_json(folder / SPECIAL_TOKENS) | read_json(folder / TOKENIZER_CONFIG)
        known = {name: values[name] for name in SETTINGS if values.get(name) is not None}
        known |= {name: _content(values[name]) for name in TOKENS if values.get(name) is not None}
        extra = values.get("additional_special_tokens") or []
        known["additional_special_tokens"] = [_content(token) for token in extra]
        return cls(folder / TOKENIZER_JSON, **(known | overrides))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_vocabulary(folder)
        settings = {name: getattr(self, name) for name in SETTINGS}
        names = {"clean_up_tokenization_spaces": False, "tokenizer_class": "GemmaTokenizer"}
        ends = {"add_bos_token": False, "add_eos_token": True}
        write_json(folder / TOKENIZER_CONFIG, settings | self.special_tokens_map | names | ends)
        write_json(folder / SPECIAL_TOKENS, self.special_tokens_map)

    def save_vocabulary(self, folder: str | Path, filename_prefix: str | None = None) -> tuple[str]:
        """Write `tokenizer.json`, or `<prefix>-tokenizer.json`, into a folder that exists; gives its path."""
        name = f"{filename_prefix}-{TOKENIZER_JSON}" if filename_prefix else TOKENIZER_JSON
        path = Path(folder) / name
        path.write_text(self._json, encoding="utf-8")
        return (str(path),)

    def __getstate__(self) -> dict[str, Any]:
        """The file's text goes along, the tokenizers made of it do not."""
        return {name: value for name, value in vars(self).items() if name not in ("_tokenizer", "_plain")}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from None


def _built(text: str, do_lower_case: bool) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{TOKENIZER_JSON} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(tokenizer.model, BPE):
        raise CheckpointError(f"{TOKENIZER_JSON} holds {type(tokenizer.model).__name__}, SigLIP 2 has BPE")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if do_lower_case:
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return tokenizer


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)
