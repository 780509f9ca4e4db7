"""Text to token ids, exactly as the reference's SigLIP tokenizer of v4.50 gives them.

    lower-case -> delete ASCII punctuation -> collapse spaces -> SentencePiece -> end of text

Lower-casing is one character at a time, as there: a Greek word's last sigma becomes the middle
form. Special tokens written in a text are control tokens in `__call__`, as in the reference, and
plain text in `encode_batch`, which is what a server needs.
"""

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import sentencepiece

from siglip_model.files import (
    PROCESSING_FILES,
    TOKENIZER_JSON,
    VOCABULARY,
    CheckpointError,
    hub_options,
    require,
    resolve,
)
from siglip_model.tokenizer_calls import Side, TokenizerCalls
from siglip_model.tokenizer_files import (
    PLAIN_SETTINGS,
    TOKEN_SETTINGS,
    added_token,
    read_tokenizer,
    write_tokenizer,
)

UNDERLINE = "▁"  # how SentencePiece writes a space inside a piece
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Of a text far longer than the model reads: more than its tokens need, unless its words are very long.
CHARACTERS_PER_TOKEN = 32
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class SiglipTokenizer(TokenizerCalls):
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
        padding_side: Side = "right",
        added_tokens: Mapping[str, int] | None = None,
    ) -> None:
        """`added_tokens` are numbered above the vocabulary; `add_tokens` makes more of them."""
        self.vocab_file = Path(vocab_file)
        self.sp_model_kwargs = dict(sp_model_kwargs or {})
        self.sp_model = load_vocabulary(self.vocab_file, self.sp_model_kwargs)
        self.eos_token, self.unk_token, self.pad_token = eos_token, unk_token, pad_token
        self.additional_special_tokens = list(additional_special_tokens)
        self.model_max_length = model_max_length
        self.do_lower_case = do_lower_case
        self.split_special_tokens = split_special_tokens
        self.model_input_names = list(model_input_names)
        self.padding_side = padding_side
        self._word_starts = self._find_word_starts()
        self._unknown_length = len(self.sp_model.Encode(unk_token, enable_sampling=False))
        given = added_tokens or {}  # files list the vocabulary's own special tokens among them
        self._added = {token: index for token, index in given.items() if index >= self.vocab_size}
        self._number(self.all_special_tokens)

    @property
    def eos_token_id(self) -> int:  # type: ignore[override]
        return self._special_id(self.eos_token)

    @property
    def unk_token_id(self) -> int:
        return self._special_id(self.unk_token)

    @property
    def pad_token_id(self) -> int:  # type: ignore[override]
        return self._special_id(self.pad_token)

    def _special_id(self, token: str) -> int:
        known = self._special_ids.get(token)
        return self.convert_tokens_to_ids(token) if known is None else known

    @property
    def all_special_tokens(self) -> list[str]:
        named = [self.eos_token, self.unk_token, self.pad_token, *self.additional_special_tokens]
        return list(dict.fromkeys(named))

    @property
    def all_special_ids(self) -> list[int]:  # type: ignore[override]
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        names = {"eos_token": self.eos_token, "unk_token": self.unk_token, "pad_token": self.pad_token}
        added = {"additional_special_tokens": self.additional_special_tokens}
        return names | (added if self.additional_special_tokens else {})

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
        end = self.eos_token_id
        for index, tokens in enumerate(self._encode_all(begun)):
            if begun[index] is not plain[index] and not self._has_whole_words(tokens, length):
                tokens = self.sp_model.Encode(plain[index])
            kept = tokens[: length - 1]
            ids[index, : len(kept)] = kept
            ids[index, len(kept)] = end
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

    def text_ids(self, text: str) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self.tokenize(text)]

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
        """Without the space that SentencePiece puts before a text: "a </s> b" gives "▁a", "b".

        Never drawn by lot: the unknown token in front must be cut off where it ends.
        """
        text = self.unk_token + encodable(self.canonicalize_text(text))
        return list(self.sp_model.Encode(text, out_type=str, enable_sampling=False))[self._unknown_length :]

    def _lower(self, text: str) -> str:
        return lower(text) if self.do_lower_case else text

    def canonicalize_text(self, text: str, *, keep_punctuation_exact_string: str | None = None) -> str:
        """Without ASCII punctuation and without runs of spaces; one exact string may be kept."""
        kept = keep_punctuation_exact_string
        parts = text.split(kept) if kept else [text]
        return " ".join((kept or "").join(part.translate(NO_PUNCTUATION) for part in parts).split())

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        """The id of one piece, or of the unknown token; or of each."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        added = self._added.get(tokens)
        return int(self.sp_model.PieceToId(tokens)) if added is None else added

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Iterable[int], skip_special_tokens: bool = False) -> list[str]: ...
    def convert_ids_to_tokens(
        self, ids: int | Iterable[int], skip_special_tokens: bool = False
    ) -> str | list[str]:
        """The piece of one id, or of each."""
        if isinstance(ids, Iterable):
            tokens = self.pieces(map(int, ids))
            special = self.all_special_tokens if skip_special_tokens else []
            return [token for token in tokens if token not in special]
        if 0 <= ids < self.vocab_size:
            return str(self.sp_model.IdToPiece(int(ids)))
        for token, added in self._added.items():
            if added == ids:
                return token
        raise ValueError(f"token id {ids} is not in the vocabulary of {len(self)}")

    def get_vocab(self) -> dict[str, int]:
        pieces = self.sp_model.IdToPiece(list(range(self.vocab_size)))
        return {piece: index for index, piece in enumerate(pieces)} | self._added

    def get_added_vocab(self) -> dict[str, int]:
        return dict(self._added)

    def add_tokens(self, new_tokens: str | Sequence[str], special_tokens: bool = False) -> int:
        """Tokens that are never taken apart, numbered above the vocabulary; gives how many are new.

        A model needs a longer table of embeddings before it can read them.
        """
        tokens = [new_tokens] if isinstance(new_tokens, str) else list(new_tokens)
        if special_tokens:
            self.additional_special_tokens += [t for t in tokens if t not in self.all_special_tokens]
        elif self.do_lower_case:
            tokens = [lower(token) for token in tokens]
        return self._number(tokens)

    def add_special_tokens(self, special_tokens: Mapping[str, Any]) -> int:
        """eos_token, unk_token, pad_token, additional_special_tokens; gives how many are new."""
        unknown = special_tokens.keys() - {*TOKEN_SETTINGS, "additional_special_tokens"}
        if unknown:
            raise ValueError(f"unknown special tokens: {', '.join(sorted(unknown))}")
        for name, value in special_tokens.items():
            setattr(self, name, list(value) if name not in TOKEN_SETTINGS else value)
        return self._number(self.all_special_tokens)

    def _number(self, tokens: Iterable[str]) -> int:
        """Tokens that the SentencePiece model lacks are numbered after its pieces."""
        count = len(self._added)
        for token in filter(None, tokens):
            if self.sp_model.IdToPiece(self.sp_model.PieceToId(token)) != token:
                self._added.setdefault(token, max(self._added.values(), default=self.vocab_size - 1) + 1)
        whole = sorted({*self.all_special_tokens, *self._added}, key=len, reverse=True)
        self._special_ids = {token: self.convert_tokens_to_ids(token) for token in self.all_special_tokens}
        self._special = re.compile(f"({'|'.join(map(re.escape, whole))})")
        return len(self._added) - count

    def decode(
        self, ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """Text of one row of ids (list, array or tensor): lower-case and without punctuation."""
        tokens = self.convert_ids_to_tokens(np.asarray(ids).reshape(-1).tolist(), skip_special_tokens)
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

    @classmethod
    def from_pretrained(cls, model: str | Path, **overrides: Any) -> Self:
        """`model` is a folder or a hub id; `overrides` replace what its files say."""
        folder = resolve(model, only=PROCESSING_FILES, **hub_options(overrides)).folder
        if not (folder / VOCABULARY).is_file() and (folder / TOKENIZER_JSON).is_file():
            raise CheckpointError(f"{folder} has {TOKENIZER_JSON} but no {VOCABULARY}: not SigLIP 1")
        require(folder, VOCABULARY)
        return cls(folder / VOCABULARY, **(read_tokenizer(folder) | overrides))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `spiece.model`, `tokenizer_config.json` and `special_tokens_map.json`."""
        folder = Path(folder)
        special = self.all_special_tokens
        decoder = {self.convert_tokens_to_ids(token): added_token(token, special=True) for token in special}
        decoder |= {
            index: added_token(token, special=False)
            for token, index in self._added.items()
            if token not in special
        }
        settings = {name: getattr(self, name) for name in PLAIN_SETTINGS}
        write_tokenizer(folder, self.special_tokens_map, decoder, self._added, settings)
        self.save_vocabulary(folder)

    def save_vocabulary(self, folder: str | Path, filename_prefix: str | None = None) -> tuple[str]:
        """Write `spiece.model`, or `<prefix>-spiece.model`, into a folder that exists; gives its path."""
        if not Path(folder).is_dir():
            raise NotADirectoryError(f"{folder} is no folder to write {VOCABULARY} to")
        path = Path(folder) / (f"{filename_prefix}-{VOCABULARY}" if filename_prefix else VOCABULARY)
        path.write_bytes(self.sp_model.serialized_model_proto())
        return (str(path),)

    def __getstate__(self) -> dict[str, Any]:
        """The model goes along, so that the file may be gone where it is unpickled."""
        return vars(self) | {"sp_model": self.sp_model.serialized_model_proto()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.sp_model = sentencepiece.SentencePieceProcessor(
            model_proto=state["sp_model"], **self.sp_model_kwargs
        )


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
