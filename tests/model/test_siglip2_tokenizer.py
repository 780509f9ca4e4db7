"""SigLIP 2's tokenizer against the installed transformers' two, on a small Gemma-like vocabulary."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import transformers
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer as Reference

from siglip_model import AutoTokenizer, CheckpointError, Siglip2Tokenizer, SiglipTokenizer
from tests.model.conftest import Equal
from tests.model.reference import quiet_reference
from tests.support.siglip2_checkpoints import ADDED, CONTROL, write_fixed_checkpoint, write_tokenizer_files

pytestmark = pytest.mark.parity(row="SigLIP 2")

TEXTS = [
    "a photo of a red cat",
    "A PHOTO of Zürich, and ÉCOLE!",
    "",
    " ",
    "  two  spaces\n\nand lines\t",
    "▁▁▁ underlines ▁",
    "猫 犬 고양이 кошка 🙂",
    "ΣΊΣΥΦΟΣ İstanbul STRAẞE",
    "x²≠½ 25% <b>bold</b>",
    "red cat in the garden " * 30,
]
CONTROLS = [
    "hi <eos> there",
    "<eos>",
    "<pad><pad>",
    "<start_of_turn>user<end_of_turn>",
    "a<unk>b<bos>c",
    "<unused0> <mask> <table>",
    "<0x41>",
    "<EOS> <Start_of_Turn>",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    quiet_reference()
    folder = tmp_path_factory.mktemp("gemma")
    write_tokenizer_files(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Siglip2Tokenizer:
    found = AutoTokenizer.from_pretrained(folder)
    assert type(found) is Siglip2Tokenizer
    return found


@pytest.mark.parametrize("text", TEXTS + CONTROLS)
def test_ids_as_trained(folder: Path, tokenizer: Siglip2Tokenizer, text: str, equal: Equal) -> None:
    """The reference's own class for the NaFlex models, which lowers."""
    theirs = Reference.from_pretrained(folder)
    equal("ids, lower case", tokenizer(text).input_ids, theirs(text).input_ids)
    equal("pieces, lower case", tokenizer.tokenize(text), theirs.tokenize(text))


@pytest.mark.parametrize("text", TEXTS + CONTROLS)
def test_ids_of_the_tokenizer_that_never_lowers(folder: Path, text: str, equal: Equal) -> None:
    """Which the reference takes for the models of one resolution."""
    ours = Siglip2Tokenizer.from_pretrained(folder, do_lower_case=False)
    theirs = transformers.GemmaTokenizer.from_pretrained(folder)
    ids = theirs(text).input_ids
    equal("ids, case kept", ours(text).input_ids, ids)
    equal("decoded", ours.decode(ids), theirs.decode(ids))
    if "<mask>" not in text:  # a special token from Transformers 5 on
        equal("decoded", ours.decode(ids, True), theirs.decode(ids, skip_special_tokens=True))
    assert ours.decode(np.array(ids)) == ours.batch_decode([ids])[0]


@pytest.mark.filterwarnings("ignore:`max_length` is ignored")
@pytest.mark.parametrize("options", [{}, {"padding": True}, {"padding": "max_length", "truncation": True}])
@pytest.mark.parametrize("length", [None, 16])
def test_rows(folder: Path, options: dict[str, object], length: int | None, equal: Equal) -> None:
    ours = Siglip2Tokenizer.from_pretrained(folder, model_input_names=["input_ids", "attention_mask"])
    theirs = Reference.from_pretrained(folder, model_max_length=64)
    theirs.model_input_names = ["input_ids", "attention_mask"]
    mine, expected = (one(TEXTS, max_length=length, **options) for one in (ours, theirs))  # type: ignore[arg-type]
    equal("rows", mine.input_ids, expected["input_ids"])
    equal("masks", mine.attention_mask, expected["attention_mask"])
    pairs = ours(TEXTS, TEXTS[::-1], max_length=length, **options)  # type: ignore[arg-type]
    equal("pairs", pairs.input_ids, theirs(TEXTS, TEXTS[::-1], max_length=length, **options)["input_ids"])


def test_padding_to_the_trained_length_by_default(tokenizer: Siglip2Tokenizer) -> None:
    assert tokenizer.model_max_length == 64  # the file says 1e30
    batch = tokenizer(["a cat", "red " * 100], padding="max_length", truncation=True, return_tensors="np")
    assert list(batch) == ["input_ids"]
    assert batch.input_ids.shape == (2, 64)
    assert (batch.input_ids[0, -1], batch.input_ids[1, -1]) == (0, 1)
    assert tokenizer.padding_side == "right"


def test_upper_case_is_lowered_unless_told_otherwise(folder: Path, tokenizer: Siglip2Tokenizer) -> None:
    assert tokenizer("A PHOTO").input_ids == tokenizer("a photo").input_ids
    kept = AutoTokenizer.from_pretrained(folder, do_lower_case=False)
    assert kept("A PHOTO").input_ids != kept("a photo").input_ids
    assert kept("a photo").input_ids == tokenizer("a photo").input_ids


@pytest.mark.parametrize("text", TEXTS)
def test_rows_for_a_server_are_those_of_a_call(tokenizer: Siglip2Tokenizer, text: str) -> None:
    ids, truncated = tokenizer.encode_batch([text, "a"], 64)
    assert ids.dtype == np.int32 and truncated.dtype == np.bool_
    call = tokenizer([text, "a"], padding="max_length", truncation=True, return_tensors="np")
    if "<" not in text:
        np.testing.assert_array_equal(ids, call.input_ids)
    assert truncated.tolist() == [len(tokenizer(text).input_ids) > 64, False]
    assert tokenizer.pieces(ids[1])[-1] == "<pad>"


@pytest.mark.parametrize("text", CONTROLS + [f"{token} {token.upper()}x{token}" for token in CONTROL])
def test_a_server_never_reads_control_tokens(tokenizer: Siglip2Tokenizer, text: str) -> None:
    ids = tokenizer.encode_batch([text], 64)[0][0].tolist()
    written = ids[: ids.index(tokenizer.eos_token_id)]
    named = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL + ADDED if token.strip("▁\n")}
    assert not {name for name, index in named.items() if index in written}
    assert ids[len(written) + 1 :] == [tokenizer.pad_token_id] * (63 - len(written))
    assert tokenizer.decode(written) == text.lower()


def test_a_call_reads_them_unless_they_are_split(folder: Path, tokenizer: Siglip2Tokenizer) -> None:
    assert tokenizer("<start_of_turn>").input_ids == [tokenizer.convert_tokens_to_ids("<start_of_turn>"), 1]
    split = Siglip2Tokenizer.from_pretrained(folder, split_special_tokens=True)
    plain = split.encode_batch(["a <eos>"], 64)[0][0].tolist()
    assert split("a <eos>").input_ids == plain[: plain.index(1) + 1]


def test_white_space_stays_whole(tokenizer: Siglip2Tokenizer) -> None:
    """Runs of it are pieces of the vocabulary, written down as added tokens."""
    assert tokenizer.pieces(tokenizer.encode_batch(["a\n\nb"], 5)[0][0]) == [
        "a",
        "\n\n",
        "b",
        "<eos>",
        "<pad>",
    ]


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_end_is_kept_when_a_text_is_cut(tokenizer: Siglip2Tokenizer, length: int) -> None:
    ids, truncated = tokenizer.encode_batch(["a photo of a red cat", ""], length)
    assert ids[0, -1] == tokenizer.eos_token_id or not truncated[0]
    assert truncated[0] == (len(tokenizer("a photo of a red cat").input_ids) > length)
    assert ids[1].tolist() == [1] + [0] * (length - 1) and not truncated[1]


def test_half_a_surrogate_pair_is_no_error(tokenizer: Siglip2Tokenizer) -> None:
    broken, replaced = tokenizer.encode_batch(["a \ud83d b", "a \ufffd b"], 16)[0]
    assert broken.tolist() == replaced.tolist()
    assert tokenizer("a \ud83d b").input_ids == tokenizer("a \ufffd b").input_ids


def test_vocabulary(folder: Path, tokenizer: Siglip2Tokenizer, equal: Equal) -> None:
    theirs = Reference.from_pretrained(folder)
    equal("vocabulary", tokenizer.get_vocab(), theirs.get_vocab())
    assert len(tokenizer) == len(theirs) and tokenizer.vocab_size == theirs.vocab_size
    ends = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
    assert (
        ends
        == (0, 1, 2, 3)
        == (
            theirs.pad_token_id,
            theirs.eos_token_id,
            theirs.bos_token_id,
            theirs.unk_token_id,
        )
    )
    assert tokenizer.convert_tokens_to_ids(["<eos>", "no such piece"]) == [1, 3]
    assert tokenizer.convert_ids_to_tokens([0, 1, 285], skip_special_tokens=True) == ["a"]
    assert tokenizer.convert_tokens_to_string(["▁a", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]) == " a🙂"
    for index in (-1, len(tokenizer)):
        with pytest.raises(ValueError, match=f"token id {index} is not in the vocabulary"):
            tokenizer.pieces([index])


def test_special_tokens_masks(tokenizer: Siglip2Tokenizer) -> None:
    row = tokenizer("a cat", "a dog", return_special_tokens_mask=True)
    assert row.special_tokens_mask == [int(index == 1) for index in row.input_ids]
    assert tokenizer.get_special_tokens_mask([5, 0, 1], already_has_special_tokens=True) == [0, 1, 1]
    assert tokenizer.special_tokens_map["pad_token"] == "<pad>"


@pytest.mark.parametrize("lower", [True, False])
def test_saved_and_pickled(folder: Path, tmp_path: Path, lower: bool) -> None:
    ours = Siglip2Tokenizer.from_pretrained(folder, do_lower_case=lower)
    ours.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved/tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for other in (again, pickle.loads(pickle.dumps(ours))):
        assert (other.do_lower_case, other.model_max_length, other.padding_side) == (lower, 64, "right")
        assert other(TEXTS).input_ids == ours(TEXTS).input_ids
        np.testing.assert_array_equal(other.encode_batch(TEXTS, 16)[0], ours.encode_batch(TEXTS, 16)[0])
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    plain = Siglip2Tokenizer.from_pretrained(folder, do_lower_case=False)
    assert theirs(TEXTS)["input_ids"] == plain(TEXTS).input_ids
    assert (theirs.pad_token, theirs.eos_token, theirs.padding_side) == ("<pad>", "<eos>", "right")


def test_padding_and_truncation_of_the_file_are_not_obeyed(folder: Path, tmp_path: Path) -> None:
    values = json.loads((folder / "tokenizer.json").read_text())
    values["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    values["padding"] = {"strategy": {"Fixed": 20}, "direction": "Left", "pad_id": 0, "pad_type_id": 0}
    values["padding"] |= {"pad_token": "<pad>", "pad_to_multiple_of": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    ours, plain = (Siglip2Tokenizer.from_pretrained(place) for place in (tmp_path, folder))
    assert ours(TEXTS).input_ids == plain(TEXTS).input_ids


def test_a_folder_with_both_files_is_the_first_siglip(tmp_path: Path, tiny: Path) -> None:
    write_fixed_checkpoint(tmp_path)
    (tmp_path / "spiece.model").write_bytes((tiny / "spiece.model").read_bytes())
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is SiglipTokenizer


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "tokenizer.json is damaged"),
        ("", "has empty files: tokenizer.json"),
        ("\udcff", "is not a tokenizer"),
        (
            '{"added_tokens": [], "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}}',
            "holds WordLevel",
        ),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "lacks the tokens <bos>"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, errors="surrogateescape")
    with pytest.raises(CheckpointError, match=words):
        Siglip2Tokenizer.from_pretrained(tmp_path)
