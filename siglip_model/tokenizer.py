"""Text to token ids, exactly as the reference's SigLIP tokenizer of v4.50 gives them.

    lower-case -> delete ASCII punctuation -> collapse spaces -> SentencePiece -> end of text

Lower-casing is one character at a time, as there: a Greek word's last sigma becomes the middle
form. Special tokens written in a text are control tokens in `__call__`, as in the reference, and
plain text in `encode_batch`, which is what a server needs.
"""

import re
import string
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import sentencepiece

from siglip_model.batch import Batch, TensorKind, to_tensors
from siglip_model.files import (
    PROCESSING_FILES,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    VOCABULARY,
    CheckpointError,
    read_json,
    require,
    resolve,
    write_json,
)

Padding = bool | Literal["longest", "max_length", "do_not_pad"]

UNDERLINE = "▁"  # how SentencePiece writes a space inside a piece
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
PLAIN_SETTINGS = (
    "model_max_length",
    "do_lower_case",
    "split_special_tokens",
    "model_input_names",
    "sp_model_kwargs",
)
TOKEN_SETTINGS = ("eos_token", "unk_token", "pad_token")
# Of a text far longer than the model reads: more than its tokens need, unless its words are very long.
CHARACTERS_PER_TOKEN = 32
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class SiglipTokenizer:
    def __init__(
        self,
        vocab_file: str | Path,
        *,
        eos_token: str = "</s>",
        unk_token: str = "<unk>",
        pad_token: str = "</s>",
        additional_special_tokens: Sequence[str] = (),
        sp_model_kwargs: dict[str, Any] | None = None,
        model_max_length: int = 64,
        do_lower_case: bool = True,
        split_special_tokens: bool = False,
        model_input_names: Sequence[str] = ("input_ids", "attention_mask"),
    ) -> None:
        self.vocab_file = Path(vocab_file)
        self.sp_model_kwargs = dict(sp_model_kwargs or {})
        self.sp_model = load_vocabulary(self.vocab_file, self.sp_model_kwargs)
        self.eos_token, self.unk_token, self.pad_token = eos_token, unk_token, pad_token
        self.additional_special_tokens = list(additional_special_tokens)
        self.model_max_length = model_max_length
        self.do_lower_case = do_lower_case
        self.split_special_tokens = split_special_tokens
        self.model_input_names = list(model_input_names)
        self.all_special_tokens = list(
            dict.fromkeys([eos_token, unk_token, pad_token, *self.additional_special_tokens])
        )
        self._word_starts = self._find_word_starts()
        self._added = self._number_added_tokens()
        self._special = re.compile(f"({'|'.join(map(re.escape, _longest_first(self.all_special_tokens)))})")
        self._unknown_length = len(self.sp_model.Encode(unk_token))
        self.eos_token_id = self.convert_tokens_to_ids(eos_token)
        self.unk_token_id = self.convert_tokens_to_ids(unk_token)
        self.pad_token_id = self.convert_tokens_to_ids(pad_token)
        self.all_special_ids = [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @property
    def vocab_size(self) -> int:
        """Pieces of the SentencePiece model, without added tokens."""
        return int(self.sp_model.GetPieceSize())

    def __len__(self) -> int:
        return self.vocab_size + len(self._added)

    def encode_batch(
        self, texts: Sequence[str], length: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Token ids [n, length], padded, and which texts [n] had more tokens than fit.

        A text too long loses its last tokens and still ends with the end token. `</s>` written
        by a user is text like any other.
        """
        ids = np.full((len(texts), length), self.pad_token_id, dtype=np.int32)
        truncated = np.zeros(len(texts), dtype=np.bool_)
        plain = [encodable(self.canonicalize_text(self._lower(text))) for text in texts]
        begun = [self._beginning(text, length) for text in plain]
        for index, tokens in enumerate(self._encode_all(begun)):
            if begun[index] is not plain[index] and not self._has_whole_words(tokens, length):
                tokens = self.sp_model.Encode(plain[index])
            kept = tokens[: length - 1]
            ids[index, : len(kept)] = kept
            ids[index, len(kept)] = self.eos_token_id
            truncated[index] = len(tokens) >= length
        return ids, truncated

    def _beginning(self, text: str, length: int) -> str:
        """Whole words of a long text, most likely enough of them for `length` tokens."""
        most = length * CHARACTERS_PER_TOKEN
        if len(text) <= most or self._word_starts is None:
            return text
        end = text.rfind(" ", 0, most)
        return text[:end] if end > 0 else text

    def _has_whole_words(self, tokens: list[int], length: int) -> bool:
        """Whether `length` tokens lie before the last word; what follows a cut can change no others."""
        starts = self._word_starts
        return starts is not None and bool(starts[tokens[length:]].any())

    def _find_word_starts(self) -> npt.NDArray[np.bool_] | None:
        """Which pieces begin a word; None where a piece may go on into the next word, or is drawn by lot."""
        pieces = self.sp_model.IdToPiece(list(range(self.vocab_size)))
        if self.sp_model_kwargs or UNDERLINE not in pieces or any(UNDERLINE in piece[1:] for piece in pieces):
            return None
        return np.array([piece.startswith(UNDERLINE) for piece in pieces])

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        # SentencePiece starts a thread for a list, even of one text: dearer than the texts when they are few.
        if len(texts) < 32:
            return [self.sp_model.Encode(text) for text in texts]
        return list(self.sp_model.Encode(texts, num_threads=1))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary piece of each id."""
        return [self.convert_ids_to_tokens(int(index)) for index in ids]

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: Padding = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: TensorKind | None = None,
    ) -> Batch:
        """`input_ids`, and `attention_mask` where the checkpoint's tokenizer asks for it.

        As in the reference nothing is padded or cut unless asked: SigLIP wants
        `padding="max_length", truncation=True`. Without `max_length` the tokenizer's
        `model_max_length` counts. One string gives one list, or one row as a tensor.
        """
        single = isinstance(text, str)
        texts = [text] if isinstance(text, str) else list(text)
        limit = self.model_max_length if max_length is None else max_length
        rows = [self.encode(one, truncation=truncation, max_length=limit) for one in texts]
        width = _padded_width(rows, padding, limit)
        values = {"input_ids": [row + [self.pad_token_id] * (width - len(row)) for row in rows]}
        if "attention_mask" in self.model_input_names:
            values["attention_mask"] = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        if single and return_tensors is None:
            return Batch({name: rows[0] for name, rows in values.items()})
        return to_tensors(values, return_tensors, np.int64)

    def encode(self, text: str, *, truncation: bool = False, max_length: int | None = None) -> list[int]:
        """Ids of one text with the end token, which is not doubled when the text ends with it."""
        ids = [self.convert_tokens_to_ids(token) for token in self.tokenize(text)]
        if truncation:
            ids = ids[: (self.model_max_length if max_length is None else max_length) - 1]
        return ids if ids[-1:] == [self.eos_token_id] else [*ids, self.eos_token_id]

    def tokenize(self, text: str) -> list[str]:
        """Pieces of one text; special tokens written in it stay whole."""
        text = text.replace(UNDERLINE, " ")
        if self.split_special_tokens:
            return self._tokenize_start(self._lower(text))
        # Lower-casing comes before the split, so "</S>" is an end token as well.
        lowered = "".join(
            part if part in self.all_special_tokens else self._lower(part)
            for part in self._special.split(text)
        )
        first, *rest = self._special.split(lowered)
        tokens = self._tokenize_start(first)
        for special, segment in zip(rest[::2], rest[1::2], strict=True):
            tokens += [special, *self._tokenize_after_special(segment)]
        return tokens

    def _tokenize_start(self, text: str) -> list[str]:
        return list(self.sp_model.Encode(encodable(self.canonicalize_text(text)), out_type=str))

    def _tokenize_after_special(self, text: str) -> list[str]:
        """Without the space that SentencePiece puts before a text: "a </s> b" gives "▁a", "b"."""
        text = self.unk_token + encodable(self.canonicalize_text(text))
        return list(self.sp_model.Encode(text, out_type=str))[self._unknown_length :]

    def _lower(self, text: str) -> str:
        return lower(text) if self.do_lower_case else text

    def canonicalize_text(self, text: str, *, keep_punctuation_exact_string: str | None = None) -> str:
        """Without ASCII punctuation and without runs of spaces; one exact string may be kept."""
        kept = keep_punctuation_exact_string
        parts = text.split(kept) if kept else [text]
        return " ".join((kept or "").join(part.translate(NO_PUNCTUATION) for part in parts).split())

    def convert_tokens_to_ids(self, token: str) -> int:
        """The id of one piece, or of the unknown token."""
        added = self._added.get(token)
        return int(self.sp_model.PieceToId(token)) if added is None else added

    def convert_ids_to_tokens(self, index: int) -> str:
        if 0 <= index < self.vocab_size:
            return str(self.sp_model.IdToPiece(index))
        for token, added in self._added.items():
            if added == index:
                return token
        raise ValueError(f"token id {index} is not in the vocabulary of {len(self)}")

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        """Text of one row of ids (list, array or tensor): lower-case and without punctuation."""
        tokens = self.pieces(np.asarray(ids).reshape(-1).tolist())
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self.all_special_tokens]
        # Added tokens stand apart; what lies between two of them is one piece of text.
        runs = [(added, list(run)) for added, run in groupby(tokens, key=self._added.__contains__)]
        parts = [" ".join(run) if added else self.convert_tokens_to_string(run) for added, run in runs]
        return " ".join(filter(None, parts))

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        text, run, after_special = "", list[str](), False
        for token in tokens:
            if token in self.all_special_tokens:
                text += ("" if after_special else " ") + self.sp_model.Decode(run) + token
                run, after_special = [], True
            else:
                run.append(token)
                after_special = False
        return str(text + self.sp_model.Decode(run)).strip()

    def batch_decode(self, rows: Any, *, skip_special_tokens: bool = False) -> list[str]:
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in rows]

    def _number_added_tokens(self) -> dict[str, int]:
        """Special tokens that the SentencePiece model lacks are numbered after its pieces."""
        unknown = [
            token
            for token in self.all_special_tokens
            if self.sp_model.IdToPiece(self.sp_model.PieceToId(token)) != token
        ]
        return {token: self.vocab_size + index for index, token in enumerate(unknown)}

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None, **overrides: Any) -> Self:
        """`model` is a folder or a hub id; `overrides` replace what its files say."""
        folder = resolve(model, revision=revision, only=PROCESSING_FILES).folder
        if not (folder / VOCABULARY).is_file() and (folder / "tokenizer.json").is_file():
            raise CheckpointError(f"{folder} has tokenizer.json but no {VOCABULARY}: not SigLIP 1")
        require(folder, VOCABULARY)
        values = read_json(folder / SPECIAL_TOKENS) | read_json(folder / TOKENIZER_CONFIG)
        return cls(folder / VOCABULARY, **(_constructor_values(values) | overrides))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `spiece.model`, `tokenizer_config.json` and `special_tokens_map.json`."""
        folder = Path(folder)
        write_json(folder / TOKENIZER_CONFIG, self._config())
        write_json(folder / SPECIAL_TOKENS, self._special_tokens_map())
        (folder / VOCABULARY).write_bytes(self.sp_model.serialized_model_proto())

    def _special_tokens_map(self) -> dict[str, Any]:
        names = {"eos_token": self.eos_token, "pad_token": self.pad_token, "unk_token": self.unk_token}
        added = {"additional_special_tokens": self.additional_special_tokens}
        return (added if self.additional_special_tokens else {}) | {
            name: _token_entry(token) for name, token in names.items()
        }

    def _config(self) -> dict[str, Any]:
        return {
            "added_tokens_decoder": {
                str(self.convert_tokens_to_ids(token)): _token_entry(token) | {"special": True}
                for token in self.all_special_tokens
            },
            "additional_special_tokens": self.additional_special_tokens,
            "clean_up_tokenization_spaces": False,
            "do_lower_case": self.do_lower_case,
            "eos_token": self.eos_token,
            "model_input_names": self.model_input_names,
            "model_max_length": self.model_max_length,
            "pad_token": self.pad_token,
            "processor_class": "SiglipProcessor",
            "sp_model_kwargs": self.sp_model_kwargs,
            "split_special_tokens": self.split_special_tokens,
            "tokenizer_class": "SiglipTokenizer",
            "unk_token": self.unk_token,
        }


def lower(text: str) -> str:
    """`str.lower` of each character by itself; only the last sigma of a word depends on others."""
    return text.replace("Σ", "σ").lower()


def encodable(text: str) -> str:
    """Half a surrogate pair has no UTF-8: it becomes the replacement character."""
    return text if text.isascii() else LONE_SURROGATE.sub("\ufffd", text)


def load_vocabulary(path: Path, options: dict[str, Any]) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes(), **options)
    except (OSError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} is not a SentencePiece model: {error}") from None


def _longest_first(tokens: Iterable[str]) -> list[str]:
    return sorted(tokens, key=len, reverse=True)


def _padded_width(rows: Sequence[Sequence[int]], padding: Padding, max_length: int) -> int:
    if padding == "max_length":
        return max_length
    if padding in (True, "longest"):
        return max(map(len, rows), default=0)
    if padding in (False, "do_not_pad"):
        return 0
    raise ValueError(f"padding must be True, False, 'longest' or 'max_length', not {padding!r}")


def _token_entry(token: str) -> dict[str, Any]:
    return {"content": token, "lstrip": True, "normalized": False, "rstrip": True, "single_word": False}


def _constructor_values(values: dict[str, Any]) -> dict[str, Any]:
    """What the constructor takes out of the JSON; tokens may be strings or objects there."""
    known = {name: values[name] for name in PLAIN_SETTINGS if values.get(name) is not None}
    known |= {name: _content(values[name]) for name in TOKEN_SETTINGS if values.get(name) is not None}
    extra = values.get("additional_special_tokens") or values.get("extra_special_tokens") or []
    return known | {"additional_special_tokens": [_content(token) for token in extra]}


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)
