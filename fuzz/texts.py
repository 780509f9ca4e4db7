"""Served texts: ids of the vocabulary, filled up to the length, whatever the text says."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from fuzz.checkpoint import tiny
from siglip_model.tokenizer import SiglipTokenizer

LENGTH = 16
END = 1  # end and padding are one token


@cache
def tokenizer() -> SiglipTokenizer:
    return SiglipTokenizer.from_pretrained(tiny())


def seeds() -> Iterator[bytes]:
    for text in ("a photo of a cat.", "</s> <unk> <pad>", "Ünïcödé ﬁ ½", "ID: 4\u200b\t\n", "😀" * 30, "\0"):
        yield text.encode()


def check(data: bytes) -> None:
    text = data.decode(errors="replace")
    ids, truncated = tokenizer().encode_batch([text, "a cat", text], LENGTH)
    assert ids.shape == (3, LENGTH) and ids.dtype == np.int32
    assert ids.min() >= 0 and ids.max() < len(tokenizer())
    assert (ids[0] == ids[2]).all() and truncated[0] == truncated[2]  # its neighbours change nothing
    ends = ids[0] == END
    assert ends[int(ends.argmax()) :].all() if ends.any() else truncated[0]
