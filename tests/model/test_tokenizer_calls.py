"""Calls of the tokenizer as users of transformers make them: recorded from 4.50.3, and live."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from siglip_model import SiglipTokenizer
from tests.model.conftest import Equal
from tests.support.parity import RECORDED

pytestmark = pytest.mark.parity(row="Tokenizer", against=RECORDED)

GOLDENS = Path(__file__).parent / "goldens"
GOLDEN = json.loads((GOLDENS / "tokenizer_calls.json").read_text(encoding="utf-8"))


@pytest.fixture
def tokenizer() -> SiglipTokenizer:
    return SiglipTokenizer(GOLDENS / "spiece.model", model_input_names=["input_ids"])


def test_padding_truncation_and_length_in_every_combination(tokenizer: SiglipTokenizer, equal: Equal) -> None:
    assert len(GOLDEN["calls"]) == 69
    for row in GOLDEN["calls"]:
        got = dict(tokenizer(GOLDEN["texts"], **row["options"]))
        equal(f"calls giving {', '.join(row['result'])}", got, row["result"])
    for row in GOLDEN["singles"]:
        equal("calls with one text", dict(tokenizer(GOLDEN["texts"][1], **row["options"])), row["result"])


def test_masks_and_special_tokens(tokenizer: SiglipTokenizer, equal: Equal) -> None:
    ids = [264, 331, 347]
    ours = {
        "built": tokenizer.build_inputs_with_special_tokens(ids, [5, 1]),
        "mask": tokenizer.get_special_tokens_mask(ids, [5]),
        "mask_there": tokenizer.get_special_tokens_mask([264, 1, 2], already_has_special_tokens=True),
        "types": tokenizer.create_token_type_ids_from_sequences(ids, [5]),
        "to_add": [tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)],
        "padded": dict(tokenizer.pad({"input_ids": [[5, 6], [7]]}, padding="max_length", max_length=4)),
    }
    for name, value in ours.items():
        equal("special tokens and masks", value, GOLDEN["masks"][name])


def grown(tokenizer: SiglipTokenizer) -> SiglipTokenizer:
    counts = [tokenizer.add_tokens(["glorp", "Blix", "</s>", "glorp"])]
    counts.append(tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]}))
    assert counts == GOLDEN["added"]["counts"]
    return tokenizer


def check_added(tokenizer: SiglipTokenizer, equal: Equal) -> None:
    equal("added tokens", len(tokenizer), GOLDEN["added"]["length"])
    for row in GOLDEN["added"]["texts"]:
        ids = tokenizer(row["text"]).input_ids
        equal("added tokens", ids, row["ids"])
        equal("added tokens", tokenizer.tokenize(row["text"]), row["tokens"])
        equal("added tokens, decoded", tokenizer.decode(ids), row["decoded"])
        equal("added tokens, decoded", tokenizer.decode(ids, skip_special_tokens=True), row["skipped"])


def test_added_tokens(tokenizer: SiglipTokenizer, equal: Equal) -> None:
    check_added(grown(tokenizer), equal)


def test_added_tokens_in_files(tokenizer: SiglipTokenizer, tmp_path: Path, equal: Equal) -> None:
    """Ours written and read, and those of 4.50.3 read."""
    grown(tokenizer).save_pretrained(tmp_path)
    check_added(SiglipTokenizer.from_pretrained(tmp_path), equal)
    for name, values in GOLDEN["added"]["files"].items():
        (tmp_path / name).write_text(json.dumps(values))
    check_added(SiglipTokenizer.from_pretrained(tmp_path), equal)
    (tmp_path / "added_tokens.json").unlink()  # as Transformers 5 leaves it
    check_added(SiglipTokenizer.from_pretrained(tmp_path), equal)


@pytest.mark.parity(row="Tokenizer")
def test_added_tokens_are_read_by_the_installed_transformers(
    tokenizer: SiglipTokenizer, tmp_path: Path, equal: Equal
) -> None:
    grown(tokenizer).save_pretrained(tmp_path / "ours")
    theirs = transformers.SiglipTokenizer.from_pretrained(tmp_path / "ours")
    # That release looks for added tokens before it lower-cases.
    for row in [row for row in GOLDEN["added"]["texts"] if row["text"].islower()]:
        equal("added tokens in saved files", theirs(row["text"]).input_ids, row["ids"])
    theirs.save_pretrained(tmp_path / "theirs")
    again = SiglipTokenizer.from_pretrained(tmp_path / "theirs")
    for row in GOLDEN["added"]["texts"]:
        equal("added tokens in saved files", again(row["text"]).input_ids, row["ids"])


def test_pairs(tokenizer: SiglipTokenizer) -> None:
    wanted = tokenizer(["a cat", "b"], ["x", "two dogs"]).input_ids
    assert tokenizer.batch_encode_plus([("a cat", "x"), ("b", "two dogs")]).input_ids == wanted
    assert tokenizer.encode_plus("a cat", "x").input_ids == tokenizer.encode("a cat", "x") == wanted[0]
    with pytest.raises(ValueError, match="text has 2 texts and text_pair has 1"):
        tokenizer(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="both be one string"):
        tokenizer(["a", "b"], "c")
    for how in ("only_first", "only_second"):
        cut = tokenizer("one two three four", "five six seven", truncation=how, max_length=22).input_ids
        assert len(cut) == 22
        with pytest.raises(ValueError, match=f"truncation='{how}' cannot remove"):
            tokenizer("one two", "five six", truncation=how, max_length=3)


def test_the_mask_of_special_tokens_is_as_long_as_the_row(tokenizer: SiglipTokenizer) -> None:
    """In the reference it is one too long where a text brings its own end."""
    got = tokenizer(["a cat", "ends </s>"], ["b", "c"], padding=True, return_special_tokens_mask=True)
    for ids, mask in zip(got.input_ids, got.special_tokens_mask, strict=True):
        assert [index for index, special in zip(ids, mask, strict=True) if special] == [1] * sum(mask)
        assert sum(mask) == ids.count(1)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"stride": 3}, TypeError, "stride"),
        ({"truncation": "middle"}, ValueError, "truncation must be .* not 'middle'"),
        ({"padding_side": "both"}, ValueError, "padding_side must be 'left' or 'right', not 'both'"),
    ],
)
def test_refusals(
    tokenizer: SiglipTokenizer, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        tokenizer("a cat", padding=True, **options)
    with pytest.raises(ValueError, match="unknown special tokens: bos_token"):
        tokenizer.add_special_tokens({"bos_token": "<s>"})


def test_a_text_too_long_is_told(tokenizer: SiglipTokenizer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer("cat " * 100)
        tokenizer("cat " * 100)
    assert caplog.text.count("the model takes 64") == 1


def test_vocabulary(tokenizer: SiglipTokenizer, tmp_path: Path) -> None:
    tokenizer.add_tokens("glorp")
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == len(tokenizer) and vocabulary["glorp"] == tokenizer.vocab_size
    assert tokenizer.get_added_vocab() == {"glorp": tokenizer.vocab_size}
    tokens = tokenizer.convert_ids_to_tokens([264, 1, tokenizer.vocab_size], skip_special_tokens=True)
    assert tokens == ["▁a", "glorp"] and tokenizer.convert_tokens_to_ids(tokens) == [
        264,
        tokenizer.vocab_size,
    ]
    (path,) = tokenizer.save_vocabulary(tmp_path, filename_prefix="my")
    assert path == str(tmp_path / "my-spiece.model")
    assert SiglipTokenizer(path).get_vocab() == {t: i for t, i in vocabulary.items() if t != "glorp"}
    with pytest.raises(NotADirectoryError, match="no folder to write"):
        tokenizer.save_vocabulary(tmp_path / "nowhere")


def test_pickled_without_its_file(tokenizer: SiglipTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    moved = SiglipTokenizer.from_pretrained(tmp_path)
    moved.add_tokens("glorp")
    data = pickle.dumps(moved)
    (tmp_path / "spiece.model").unlink()
    again = pickle.loads(data)
    assert again("a glorp cat") == moved("a glorp cat") and len(again) == len(moved)


def test_sampling_draws_among_segmentations_of_the_canonical_text() -> None:
    options = {"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}
    tokenizer = SiglipTokenizer(GOLDENS / "spiece.model", sp_model_kwargs=options)
    drawn = [tokenizer("A Cat, near the River!").input_ids for _ in range(30)]
    assert len({tuple(ids) for ids in drawn}) > 1
    assert {tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn} == {"a cat near the river"}
    assert tokenizer.decode(tokenizer("a </s> river").input_ids, skip_special_tokens=True) == "ariver"


def test_the_longer_of_two_added_tokens_is_taken(tokenizer: SiglipTokenizer) -> None:
    tokenizer.add_tokens(["glor", "glorp"])
    assert tokenizer.tokenize("a glorp") == ["▁a", "glorp"]


ROWS = st.lists(
    st.lists(st.tuples(st.integers(3, 300), st.integers(0, 1)), min_size=1, max_size=9),
    min_size=1,
    max_size=5,
)


@given(rows=ROWS, side=st.sampled_from(["left", "right"]), multiple=st.sampled_from([None, 4]))
def test_padding_keeps_what_came_along(rows: Any, side: Any, multiple: int | None) -> None:
    tokenizer = SiglipTokenizer(GOLDENS / "spiece.model", model_input_names=["input_ids"])
    encoded = [
        {"input_ids": [i for i, _ in row], "attention_mask": [m for _, m in row], "labels": n}
        for n, row in enumerate(rows)
    ]
    batch = tokenizer.pad(encoded, pad_to_multiple_of=multiple, padding_side=side, return_tensors="np")
    assert batch.labels.tolist() == list(range(len(rows)))
    assert batch.input_ids.shape == batch.attention_mask.shape
    for row, ids, mask in zip(rows, batch.input_ids, batch.attention_mask, strict=True):
        place = slice(-len(row), None) if side == "left" else slice(len(row))
        assert list(zip(ids[place], mask[place], strict=True)) == row
        assert mask.sum() == sum(m for _, m in row)
        assert (ids == 1).sum() == len(ids) - len(row)


def test_padding_one_row(tokenizer: SiglipTokenizer) -> None:
    alone = tokenizer.pad({"input_ids": [5, 6]}, padding="max_length", max_length=4)
    assert alone == {"input_ids": [5, 6, 1, 1]}
    encoded = [{"input_ids": [5, 6], "special_tokens_mask": [0, 1]}]
    longer = {"input_ids": [5, 6, 7], "special_tokens_mask": [0, 0, 1]}
    assert tokenizer.pad([*encoded, longer]).special_tokens_mask == [[0, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="pad needs input_ids, and was given ids"):
        tokenizer.pad({"ids": [1]})


def test_a_token_named_anew_is_used(tokenizer: SiglipTokenizer) -> None:
    tokenizer.pad_token = "<unk>"
    assert tokenizer.pad_token_id == 2
    assert tokenizer(["a", "a b c"], padding=True).input_ids == [[264, 1, 2, 2, 2], [264, 464, 259, 293, 1]]
    ids, _ = tokenizer.encode_batch(["a"], 4)
    assert ids.tolist() == [[264, 1, 2, 2]]


def test_arguments_by_name_and_place(tokenizer: SiglipTokenizer) -> None:
    assert tokenizer.build_inputs_with_special_tokens(token_ids_0=[5], token_ids_1=[6]) == [5, 1, 6, 1]
    assert tokenizer.get_special_tokens_mask(token_ids_0=[5], token_ids_1=[6]) == [0, 1, 0, 1]
    assert tokenizer.create_token_type_ids_from_sequences(token_ids_0=[5], token_ids_1=[6]) == [0] * 4
    assert tokenizer.encode("a", None, True, "max_length", True, 4) == [264, 1, 1, 1]
    assert tokenizer.batch_encode_plus(["a"], True, "max_length", True, 4).input_ids == [[264, 1, 1, 1]]
    assert tokenizer.batch_decode([[264, 1]], True) == ["a"] == tokenizer.batch_decode([[264, 1]], True, True)


@pytest.mark.parametrize(
    ("text", "kind"), [(None, "NoneType"), (3, "int"), (["a", 3], "int"), ([["a"]], "list")]
)
def test_what_is_no_text_is_refused(tokenizer: SiglipTokenizer, text: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"text must be a string or a list of strings, not one of {kind}"):
        tokenizer(text)
