"""From the ids of texts to rows: pairs, cutting, the end token, padding, masks. For both tokenizers."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from siglip_model.batch import Batch, TensorKind, to_tensors

log = logging.getLogger(__name__)

Padding = bool | Literal["longest", "max_length", "do_not_pad"]
Truncation = bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"]
Side = Literal["left", "right"]
Ids = list[int]
PADDED_WITH = {"attention_mask": 0, "special_tokens_mask": 1, "token_type_ids": 0}


class TokenizerCalls:
    """What `__call__`, `encode` and `pad` do; a tokenizer supplies `text_ids` and `token_of`."""

    model_max_length: int
    padding_side: Side
    model_input_names: list[str]
    pad_token_id: int
    eos_token_id: int
    all_special_ids: list[int]
    _told_of_length = False

    def text_ids(self, text: str) -> Ids:
        """Ids of one text, without an end token of ours."""
        raise NotImplementedError

    def decode(
        self, ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        raise NotImplementedError

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        add_special_tokens: bool = True,
        padding: Padding = False,
        truncation: Truncation | None = None,
        max_length: int | None = None,
        *,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_tensors: TensorKind | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
    ) -> Batch:
        """`input_ids`, and `attention_mask` where the checkpoint's tokenizer asks for it.

        As in the reference nothing is padded or cut unless asked: SigLIP wants
        `padding="max_length", truncation=True`. Without `max_length` the tokenizer's
        `model_max_length` counts. One string gives one list, or one row as a tensor.

        truncation: True or "longest_first", "only_first", "only_second", False; None cuts if
            `max_length` is given without padding, as the reference does.
        """
        if text_pair is not None and isinstance(text_pair, str) != isinstance(text, str):
            raise ValueError("text and text_pair must both be one string, or both lists of strings")
        texts = texts_of(text, "text")
        pairs = [None] * len(texts) if text_pair is None else texts_of(text_pair, "text_pair")
        if len(texts) != len(pairs):
            raise ValueError(f"text has {len(texts)} texts and text_pair has {len(pairs)}")
        how = truncation_of(truncation, padding, max_length)
        limit = self.model_max_length if max_length is None else max_length
        rows = [
            self._row(one, pair, add_special_tokens, how, limit)
            for one, pair in zip(texts, pairs, strict=True)
        ]
        batch = self._batch(
            rows,
            padding,
            max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_token_type_ids=return_token_type_ids,
            return_attention_mask=return_attention_mask,
            return_special_tokens_mask=return_special_tokens_mask,
            return_length=return_length,
        )
        if isinstance(text, str) and return_tensors is None:
            return Batch({name: values[0] for name, values in batch.items()})
        return to_tensors(batch, return_tensors, np.int64)

    def encode(self, text: str, text_pair: str | None = None, *args: Any, **options: Any) -> Any:
        """Ids of one text with the end token, which is not doubled when the text ends with it."""
        return self(text, text_pair, *args, **options).input_ids

    def encode_plus(self, text: str, text_pair: str | None = None, *args: Any, **options: Any) -> Batch:
        return self(text, text_pair, *args, **options)

    def batch_encode_plus(
        self,
        batch_text_or_text_pairs: Sequence[str] | Sequence[tuple[str, str]],
        *args: Any,
        **options: Any,
    ) -> Batch:
        """Texts, or pairs of texts."""
        first: Any = batch_text_or_text_pairs
        second = None
        if first and not isinstance(first[0], str):
            first, second = map(list, zip(*first, strict=True))
        return self(first, second, *args, **options)

    def _row(
        self, text: str, pair: str | None, add_special_tokens: bool, truncation: Truncation, limit: int
    ) -> tuple[Ids, Ids]:
        """Ids, and which of them are special."""
        ids, more = self.text_ids(text), None if pair is None else self.text_ids(pair)
        ends = self.num_special_tokens_to_add(pair is not None) if add_special_tokens else 0
        ids, more = cut(ids, more, len(ids) + len(more or []) + ends - limit, truncation)
        built = self.build_inputs_with_special_tokens(ids, more) if add_special_tokens else ids + (more or [])
        if len(built) > self.model_max_length and truncation is False and not self._told_of_length:
            self._told_of_length = True
            log.warning("a text has %d tokens, the model takes %d", len(built), self.model_max_length)
        if not add_special_tokens:
            return built, [0] * len(built)
        split = len(built) if more is None else len(built) - len(self.build_inputs_with_special_tokens(more))
        return built, [int(place + 1 in (split, len(built))) for place in range(len(built))]

    def _batch(
        self,
        rows: Sequence[tuple[Ids, Ids]],
        padding: Padding,
        max_length: int | None,
        *,
        pad_to_multiple_of: int | None,
        padding_side: Side | None,
        return_token_type_ids: bool | None,
        return_attention_mask: bool | None,
        return_special_tokens_mask: bool,
        return_length: bool,
    ) -> dict[str, list[Any]]:
        limit = self.model_max_length if max_length is None else max_length
        ids, special = [row for row, _ in rows], [mask for _, mask in rows]
        width = padded_width(ids, padding, limit, pad_to_multiple_of)
        side = self.padding_side if padding_side is None else padding_side
        if side not in get_args(Side):
            raise ValueError(f"padding_side must be 'left' or 'right', not {side!r}")
        values = {"input_ids": padded(ids, width, self.pad_token_id, side)}
        if self._wants("token_type_ids", return_token_type_ids):
            values["token_type_ids"] = [[0] * max(width, len(row)) for row in ids]
        if return_special_tokens_mask:
            values["special_tokens_mask"] = padded(special, width, 1, side)
        if return_length:
            values["length"] = [len(row) for row in ids]  # type: ignore[misc]
        if self._wants("attention_mask", return_attention_mask):
            values["attention_mask"] = padded([[1] * len(row) for row in ids], width, 0, side)
        return values

    def _wants(self, name: str, asked: bool | None) -> bool:
        return name in self.model_input_names if asked is None else asked

    def pad(
        self,
        encoded: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: Padding = True,
        max_length: int | None = None,
        *,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: TensorKind | None = None,
    ) -> Batch:
        """Rows that were encoded before, as one batch; a list of encodings is joined first.

        Masks that come along are padded too, where the reference leaves an attention mask ragged;
        other keys, such as labels, stay as they are.
        """
        if not isinstance(encoded, Mapping):
            encoded = {name: [one[name] for one in encoded] for name in (encoded[0] if encoded else ())}
        if "input_ids" not in encoded:
            raise ValueError(f"pad needs input_ids, and was given {', '.join(encoded) or 'nothing'}")
        alone = np.ndim(next(iter(encoded["input_ids"]), [])) == 0 and len(encoded["input_ids"]) > 0
        values = {name: [value] if alone else list(value) for name, value in encoded.items()}
        rows = [np.asarray(row).tolist() for row in values["input_ids"]]
        batch = values | self._batch(
            [(row, [0] * len(row)) for row in rows],
            padding,
            max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_token_type_ids=None,
            return_attention_mask=return_attention_mask,
            return_special_tokens_mask=False,
            return_length=False,
        )
        width = max(map(len, batch["input_ids"]), default=0)
        side = self.padding_side if padding_side is None else padding_side
        for name in PADDED_WITH.keys() & values.keys():
            given = [np.asarray(row).tolist() for row in values[name]]
            batch[name] = padded(given, width, PADDED_WITH[name], side)
        if alone and return_tensors is None:
            return Batch({name: value[0] for name, value in batch.items()})
        return to_tensors(batch, return_tensors)

    def build_inputs_with_special_tokens(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """A </s>, or A </s> B </s>; an end token that is there already is not doubled."""
        end = self.eos_token_id
        ended = token_ids_0 if token_ids_0[-1:] == [end] else [*token_ids_0, end]
        return ended if token_ids_1 is None else ended + self.build_inputs_with_special_tokens(token_ids_1)

    def get_special_tokens_mask(
        self, token_ids_0: Ids, token_ids_1: Ids | None = None, already_has_special_tokens: bool = False
    ) -> Ids:
        """1 where a special token is, or would be put by `build_inputs_with_special_tokens`."""
        if already_has_special_tokens:
            special = self.all_special_ids
            return [int(index in special) for index in token_ids_0]
        mask = [0] * len(token_ids_0) + [1]
        return mask if token_ids_1 is None else mask + [0] * len(token_ids_1) + [1]

    def create_token_type_ids_from_sequences(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """Zeros: SigLIP knows no types."""
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return 2 if pair else 1

    def batch_decode(
        self,
        sequences: Iterable[Any],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[str]:
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in sequences]


def texts_of(value: Any, name: str) -> list[Any]:
    """One text or many as a list. Raises ValueError for anything else."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    wrong = next((type(one).__name__ for one in texts if not isinstance(one, str)), None)
    if wrong is not None:
        raise ValueError(f"{name} must be a string or a list of strings, not one of {wrong}")
    return texts


def truncation_of(truncation: Truncation | None, padding: Padding, max_length: int | None) -> Truncation:
    if truncation is None:
        truncation = max_length is not None and padding is False
    if truncation is True:
        return "longest_first"
    if truncation == "do_not_truncate":
        return False
    if truncation not in (False, "longest_first", "only_first", "only_second"):
        raise ValueError(
            "truncation must be True, False, 'longest_first', 'only_first', 'only_second' or "
            f"'do_not_truncate', not {truncation!r}"
        )
    return truncation


def cut(ids: Ids, pair: Ids | None, surplus: int, truncation: Truncation) -> tuple[Ids, Ids | None]:
    """Without `surplus` of their last ids. Raises ValueError where the text to be cut is too short."""
    if surplus <= 0 or truncation is False:
        return ids, pair
    first, second = len(ids), len(pair or [])
    if truncation == "only_first" or pair is None:
        first -= surplus
    elif truncation == "only_second":
        second -= surplus
    else:
        for _ in range(min(surplus, first + second)):
            if first > second:
                first -= 1
            else:
                second -= 1
    if pair is not None and min(first, second) < 0:
        raise ValueError(f"truncation={truncation!r} cannot remove {surplus} tokens: that text has fewer")
    return ids[: max(first, 0)], None if pair is None else pair[:second]


def padded_width(rows: Sequence[Ids], padding: Padding, max_length: int, multiple: int | None = None) -> int:
    if padding == "max_length":
        width = max_length
    elif padding in (True, "longest"):
        width = max(map(len, rows), default=0)
    elif padding in (False, "do_not_pad"):
        return 0
    else:
        raise ValueError(f"padding must be True, False, 'longest' or 'max_length', not {padding!r}")
    return -(-width // multiple) * multiple if multiple else width


def padded(rows: Sequence[Ids], width: int, value: int, side: Side) -> list[Ids]:
    """Rows longer than the width stay as they are."""
    fill = [[value] * (width - len(row)) for row in rows]
    return [row + more if side == "right" else more + row for row, more in zip(rows, fill, strict=True)]
