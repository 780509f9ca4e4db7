"""The tokenizer: padding, cutting, control tokens in served text, odd text, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from siglip_model import CheckpointError, SiglipTokenizer
from tests.support.checkpoints import spiece

LENGTH = 16


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> SiglipTokenizer:
    return SiglipTokenizer.from_pretrained(tiny)


def test_served_rows_are_padded_to_the_length(tokenizer: SiglipTokenizer) -> None:
    ids, truncated = tokenizer.encode_batch(["a cat", "", "two dogs!"], LENGTH)
    assert ids.shape == (3, LENGTH)
    assert (ids.dtype, truncated.dtype) == (np.int32, np.bool_)
    assert not truncated.any()
    assert ids[1].tolist() == [1] * LENGTH
    body = tokenizer.sp_model.Encode("a cat")
    assert ids[0].tolist() == body + [1] * (LENGTH - len(body))
    empty, none = tokenizer.encode_batch([], LENGTH)
    assert (empty.shape, none.shape) == ((0, LENGTH), (0,))


def test_text_too_long_is_cut_and_still_ends(tokenizer: SiglipTokenizer) -> None:
    body = tokenizer.sp_model.Encode("cat " * 5000)
    ids, truncated = tokenizer.encode_batch(["cat " * 5000, "cat"], LENGTH)
    assert truncated.tolist() == [True, False]
    assert ids[0].tolist() == [*body[: LENGTH - 1], 1]


def test_truncated_says_exactly_when_something_is_lost(tokenizer: SiglipTokenizer) -> None:
    count = len(tokenizer.sp_model.Encode("cat cat cat"))
    for length in (count, count + 1, count + 2):
        _, truncated = tokenizer.encode_batch(["cat cat cat"], length)
        assert truncated[0] == (length < count + 1)


@pytest.mark.parametrize("text", ["a </s> b", "<unk>", "a</S>b", "▁</s>▁", "<pad> <s>"])
def test_served_text_holds_no_control_tokens(tokenizer: SiglipTokenizer, text: str) -> None:
    ids, _ = tokenizer.encode_batch([text], 64)
    body = ids[0].tolist()[: ids[0].tolist().index(1)]
    plain = tokenizer.canonicalize_text(text.replace("▁", " ").lower())
    assert body == tokenizer.sp_model.Encode(plain)
    assert tokenizer.eos_token_id not in body


@pytest.mark.parametrize(
    "text",
    [
        "\ud800",
        "a \udfff b",
        "\ud83d\ude00",
        "\0",
        "a\0b",
        "\ufffe",
        "\U0010ffff",
        "\u202e",
        "e" + "\u0301" * 500,
        "x" * 100_000,
        " " * 100_000,
        "!" * 100_000,
        "猫" * 50_000,
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_odd_text_never_fails(tokenizer: SiglipTokenizer, text: str) -> None:
    ids, _ = tokenizer.encode_batch([text, "a cat"], 64)
    np.testing.assert_array_equal(ids[1], tokenizer.encode_batch(["a cat"], 64)[0][0])
    assert ((ids >= 0) & (ids < len(tokenizer))).all()
    tokenizer(text)


def test_a_row_does_not_depend_on_its_neighbours(tokenizer: SiglipTokenizer) -> None:
    texts = ["a cat", "x" * 1000, "", "猫 </s>", "two dogs near 3 trees!"]
    together, _ = tokenizer.encode_batch(texts, 64)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(tokenizer.encode_batch([text], 64)[0][0], row)


def test_pieces(tokenizer: SiglipTokenizer) -> None:
    ids, _ = tokenizer.encode_batch(["a cat"], 8)
    pieces = tokenizer.pieces(ids[0])
    assert "".join(pieces).replace("▁", " ").startswith(" a cat</s></s>")
    with pytest.raises(ValueError, match="99999 is not in the vocabulary"):
        tokenizer.pieces([99999])


def test_call_pads_and_cuts_only_when_asked(tokenizer: SiglipTokenizer) -> None:
    long = "cat " * 100
    plain = tokenizer(["a cat", long])
    assert len(plain.input_ids[0]) < 10 < 64 < len(plain.input_ids[1])
    assert {len(row) for row in tokenizer(["a cat", long], padding=True).input_ids} == {
        len(plain.input_ids[1])
    }
    padded = tokenizer(["a cat", long], padding="max_length")
    assert [len(row) for row in padded.input_ids] == [64, len(plain.input_ids[1])]
    cut = tokenizer(["a cat", long], padding="max_length", truncation=True, return_tensors="np")
    assert cut.input_ids.shape == (2, 64)
    assert cut.input_ids.dtype == np.int64
    assert cut.input_ids[1, -1] == 1
    assert tokenizer(long, truncation=True, max_length=5).input_ids == [*plain.input_ids[1][:4], 1]
    with pytest.raises(ValueError, match="different lengths"):
        tokenizer(["a cat", long], return_tensors="np")
    with pytest.raises(ValueError, match="padding must be"):
        tokenizer("a", padding="left")  # type: ignore[arg-type]


def test_one_text_gives_a_list_or_one_row(tokenizer: SiglipTokenizer) -> None:
    assert isinstance(tokenizer("a cat").input_ids[0], int)
    tensor = tokenizer("a cat", return_tensors="pt").input_ids
    assert tensor.dtype == torch.int64
    assert tensor.shape == (1, len(tokenizer("a cat").input_ids))


def test_the_mask_is_given_where_the_checkpoint_says_so(tiny: Path) -> None:
    assert list(SiglipTokenizer.from_pretrained(tiny)("a cat")) == ["input_ids"]
    masked = SiglipTokenizer.from_pretrained(tiny, model_input_names=["input_ids", "attention_mask"])
    batch = masked(["a cat", "a"], padding="max_length", max_length=8)
    for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        count = sum(mask)
        assert mask == [1] * count + [0] * (8 - count)
        assert ids[count - 1 :] == [1] * (9 - count)


def test_canonical_text(tokenizer: SiglipTokenizer) -> None:
    assert tokenizer.canonicalize_text(" A,  b.\tc_d ") == "A b cd"
    assert tokenizer.canonicalize_text("{a} {} b!", keep_punctuation_exact_string="{}") == "a {} b"
    assert tokenizer.canonicalize_text("“quotes” … 。") == "“quotes” … 。"


def test_decoding(tokenizer: SiglipTokenizer) -> None:
    ids = tokenizer(
        ["A cat!", "two dogs"], padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == ["a cat", "two dogs"]
    assert tokenizer.decode(ids[0]) == "a cat" + "</s>" * (64 - len(tokenizer("a cat").input_ids) + 1)


def test_extra_special_tokens_are_numbered_after_the_vocabulary(tiny: Path, tmp_path: Path) -> None:
    tokenizer = SiglipTokenizer(tiny / "spiece.model", additional_special_tokens=["<IMG>", "<unk>", "<b>"])
    size = tokenizer.vocab_size
    assert len(tokenizer) == size + 2
    ids = tokenizer("a <IMG> cat<b>").input_ids
    assert ids[-2:] == [size + 1, 1]
    assert size in ids
    assert tokenizer.decode(ids) == "a <IMG> cat <b> </s>"  # as v4.50.3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "acat"
    tokenizer.save_pretrained(tmp_path)
    assert SiglipTokenizer.from_pretrained(tmp_path)("a <IMG> cat<b>").input_ids == ids


def test_files_round_trip(tiny: Path, tmp_path: Path) -> None:
    import transformers

    tokenizer = SiglipTokenizer.from_pretrained(tiny, model_max_length=20, do_lower_case=False)
    tokenizer.save_pretrained(tmp_path)
    again = SiglipTokenizer.from_pretrained(tmp_path)
    assert (again.model_max_length, again.do_lower_case) == (20, False)
    assert again.model_input_names == ["input_ids"]
    assert (tmp_path / "spiece.model").read_bytes() == (tiny / "spiece.model").read_bytes()
    theirs = transformers.SiglipTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 20
    for text in ("A cat", "a </s> b", "ß 25%"):
        assert theirs(text).input_ids == again(text).input_ids
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        ours, published = (json.loads((folder / name).read_text()) for folder in (tmp_path, tiny))
        assert published.keys() <= ours.keys()


def test_special_tokens_may_be_objects_or_live_in_the_other_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes((tiny / "spiece.model").read_bytes())
    config = {"eos_token": {"content": "</s>", "__type": "AddedToken"}, "extra_special_tokens": []}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    extra = {"additional_special_tokens": [{"content": "<x>"}]}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(extra))
    tokenizer = SiglipTokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token_id == 1
    assert tokenizer.additional_special_tokens == ["<x>"]
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]


def test_sampling_options_reach_sentencepiece(tiny: Path) -> None:
    options = {"enable_sampling": True, "alpha": 0.1, "nbest_size": -1}
    tokenizer = SiglipTokenizer.from_pretrained(tiny, sp_model_kwargs=options)
    assert len({tuple(tokenizer("a photo of mountains").input_ids) for _ in range(50)}) > 1


def test_folders_without_a_usable_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks spiece\.model"):
        SiglipTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json but no spiece\.model"):
        SiglipTokenizer.from_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(spiece()[:5001])
    with pytest.raises(CheckpointError, match="is not a SentencePiece model"):
        SiglipTokenizer.from_pretrained(tmp_path)
