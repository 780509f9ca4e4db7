"""Token ids: against transformers 4.50.3 (recorded) and against the installed one (live)."""

import json
import random
import unicodedata
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from siglip_model import SiglipTokenizer
from siglip_model.tokenizer import lower
from tests.model.conftest import Equal
from tests.support.checkpoints import spiece, write_tokenizer
from tests.support.parity import RECORDED

pytestmark = pytest.mark.parity(row="Tokenizer")

GOLDENS = Path(__file__).parent / "goldens"


def recorded() -> list[dict[str, Any]]:
    return json.loads((GOLDENS / "tokenizer.json").read_text(encoding="utf-8"))["rows"]


@pytest.mark.parity(row="Tokenizer", against=RECORDED)
@pytest.mark.parametrize(
    ("column", "settings"),
    [("ids", {}), ("plain", {"split_special_tokens": True}), ("cased", {"do_lower_case": False})],
)
def test_ids_of_4_50(column: str, settings: dict[str, Any], equal: Equal) -> None:
    tokenizer = SiglipTokenizer(GOLDENS / "spiece.model", **settings)
    for row in recorded():
        equal(
            {"ids": "ids", "plain": "ids, control tokens split", "cased": "ids, case kept"}[column],
            tokenizer.encode(row["text"]),
            row[column],
        )


@pytest.mark.parity(row="Tokenizer", against=RECORDED)
def test_padding_and_truncation_of_4_50(equal: Equal) -> None:
    tokenizer = SiglipTokenizer(GOLDENS / "spiece.model")
    rows = recorded()
    got = tokenizer([row["text"] for row in rows], padding="max_length", max_length=16, truncation=True)
    for ids, row in zip(got.input_ids, rows, strict=True):
        equal("padded or cut to 16", ids, row["cut_16"])


@pytest.mark.parity(row="Tokenizer", against=RECORDED)
def test_decoding_of_4_50(equal: Equal) -> None:
    tokenizer = SiglipTokenizer(GOLDENS / "spiece.model")
    for row in recorded():
        equal("decoded", tokenizer.decode(row["ids"]), row["decoded"])
        plain = tokenizer.decode(row["ids"], skip_special_tokens=True)
        equal("decoded without special tokens", plain, row["decoded_without_specials"])


@pytest.mark.parity(row="Tokenizer", against=RECORDED)
def test_the_server_s_ids_are_those_of_4_50_with_specials_split(equal: Equal) -> None:
    tokenizer = SiglipTokenizer(GOLDENS / "spiece.model")
    rows = recorded()
    ids, truncated = tokenizer.encode_batch([row["text"] for row in rows], 64)
    for mine, cut, row in zip(ids.tolist(), truncated.tolist(), rows, strict=True):
        wanted = row["plain"]
        assert cut == (len(wanted) > 64), row["text"]
        wanted = [*wanted[:63], 1] if cut else wanted + [1] * (64 - len(wanted))
        equal("ids of the server", mine, wanted)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "byte fallback"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path, spiece(byte_fallback=request.param))
    return path


def random_texts(count: int) -> Iterator[str]:
    """Words, punctuation, spaces and characters of any script; no control tokens, no Σ.

    The installed release lower-cases whole strings (other last sigmas), and does not lower-case
    before it looks for control tokens: both differ from 4.50 on purpose, so 4.50 is recorded.
    """
    pick = random.Random(1)
    scripts = [(0x20, 0x7F), (0xA0, 0x250), (0x390, 0x3A2), (0x3B1, 0x530), (0x600, 0x700), (0x900, 0xE7F)]
    scripts += [(0x1E00, 0x2100), (0x2150, 0x2500), (0x3000, 0x3100), (0x4E00, 0x5000), (0xAC00, 0xAD00)]
    scripts += [(0xFF00, 0xFFF0), (0x1F300, 0x1F700)]
    words = ["cat", "Photo", "of", "a", "▁", "_", "...", "  ", "\t", "\n", "<", "/s>", "Zürich", "25%", "猫"]
    for _ in range(count):
        parts = []
        for _ in range(pick.randint(0, 12)):
            low, high = pick.choice(scripts)
            run = [chr(pick.randrange(low, high)) for _ in range(pick.randint(1, 6))]
            parts.append(pick.choice([pick.choice(words), "".join(run)]))
        text = pick.choice(["", " "]).join(parts)
        if "</s>" not in text.lower():
            yield text


def test_ids_of_the_installed_release(folder: Path, equal: Equal) -> None:
    theirs = transformers.SiglipTokenizer.from_pretrained(folder)
    ours = SiglipTokenizer.from_pretrained(folder)
    texts = list(random_texts(2000))
    assert len(texts) > 1900
    served, _ = ours.encode_batch(texts, 64)
    for text, row in zip(texts, served.tolist(), strict=True):
        wanted = theirs(text).input_ids
        equal("ids of random texts", ours(text).input_ids, wanted)
        if len(wanted) <= 64:
            assert row == wanted + [1] * (64 - len(wanted)), repr(text)


def test_only_the_beginning_of_a_long_text_is_tokenized_and_nothing_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = SiglipTokenizer.from_pretrained(folder)
    pick = random.Random(3)
    pieces = list(random_texts(600))
    texts = [pick.choice(["", " "]).join(pick.choices(pieces, k=60)) for _ in range(100)]
    texts += ["".join(pick.choices(["猫", "cat", "\u200b", "\x01"], k=3000)) for _ in range(20)]
    texts += [" ".join(pick.choices(["\u0301", "\x01", "\u200b", "a" * 900], k=400)) for _ in range(40)]
    lengths = (2, 8, 64)
    cut = [tokenizer.encode_batch(texts, length) for length in lengths]
    seen: list[int] = []
    encode = tokenizer._encode_all
    monkeypatch.setattr(tokenizer, "_encode_all", lambda some: seen.extend(map(len, some)) or encode(some))
    tokenizer.encode_batch(["two cats " * 7000], 64)
    assert max(seen) <= 2048
    monkeypatch.setattr(tokenizer, "_word_starts", None)
    for length, (ids, truncated) in zip(lengths, cut, strict=True):
        whole_ids, whole_truncated = tokenizer.encode_batch(texts, length)
        np.testing.assert_array_equal(ids, whole_ids)
        np.testing.assert_array_equal(truncated, whole_truncated)


def test_control_tokens_as_the_installed_release(folder: Path, equal: Equal) -> None:
    theirs = transformers.SiglipTokenizer.from_pretrained(folder)
    ours = SiglipTokenizer.from_pretrained(folder)
    pick = random.Random(2)
    words = ["cat", "a", "</s>", "<unk>", " ", "  ", "Photo!", "25", "猫", "é", "▁"]
    for _ in range(1000):
        text = "".join(pick.choices(words, k=pick.randint(1, 8)))
        with pytest.warns() if theirs.tokenize(text)[-1:] == ["</s>"] else nullcontext():
            wanted = theirs(text).input_ids
        equal("ids of control tokens", ours(text).input_ids, wanted)
        equal("pieces of control tokens", ours.tokenize(text), theirs.tokenize(text))


def test_lower_casing_is_by_character() -> None:
    everything = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) != "Cs"]
    assert lower("".join(everything)) == "".join(map(str.lower, everything))
    assert lower("ΟΔΟΣ ΣΑΣ") == "οδοσ σασ"
