"""Where pairs come from: folders and Parquet, and what happens to bad ones."""

import json
from pathlib import Path
from random import Random

import pyarrow
import pyarrow.parquet
import pytest
import torch

from siglip_model import SiglipProcessor
from siglip_model.finetune.batches import Maker, group_numbers
from siglip_model.finetune.evaluation import best_ranks, zero_shot
from siglip_model.finetune.folders import read_folder
from siglip_model.finetune.pairs import Bad, Data
from siglip_model.finetune.parquet import read_parquet
from siglip_model.finetune.recipe import TrainingError
from siglip_model.finetune.run import finetune
from siglip_model.finetune.sources import read_data
from tests.model.finetune_data import recipe_of, write_pictures


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", 4)


def told(data: Data) -> list[tuple[str, tuple[str, ...]]]:
    return [(pair.file.name, pair.captions) for pair in data.pairs]


def test_text_files(data: Path) -> None:
    (data / "01.txt").unlink()
    (data / "02.txt").write_text("  \n")
    bad = Bad(9)
    found = told(read_folder(data, "{}", bad))
    assert found == [("00.png", ("red picture 0",)), ("03.png", ("yellow picture 3",))]
    assert bad.reasons == {"01.png": "has no .txt file of the same name", "02.png": "its text is empty"}


def test_json_lines(data: Path) -> None:
    rows = [
        json.dumps({"file_name": "00.png", "text": ["one", "two"]}),
        "{",
        json.dumps({"file_name": "../secret.png", "text": "x"}),
        json.dumps({"file_name": "99.png", "text": "x"}),
        json.dumps({"file_name": "01.png", "text": 3}),
    ]
    (data / "metadata.jsonl").write_text("\n".join(rows))
    bad = Bad(9)
    assert told(read_folder(data, "{}", bad)) == [("00.png", ("one", "two"))]
    assert list(bad.reasons.values()) == [
        "needs file_name and text",
        "file_name '../secret.png' leads out of the folder",
        "there is no file '99.png'",
        "its text is neither a string nor a list of strings",
    ]


def test_csv(data: Path) -> None:
    (data / "captions.csv").write_text('file_name,text\n00.png,"red, plain"\n01.png,green\n')
    assert told(read_folder(data, "{}", Bad(0))) == [("00.png", ("red, plain",)), ("01.png", ("green",))]


def test_folders_are_labels(data: Path, tmp_path: Path) -> None:
    (tmp_path / "classes" / "big_dog").mkdir(parents=True)
    (data / "00.png").rename(tmp_path / "classes" / "big_dog" / "a.png")
    found = read_folder(tmp_path / "classes", "a photo of {}", Bad(0))
    assert told(found) == [("a.png", ("a photo of big dog",))]
    assert found.labels == ("big dog",)


def test_parquet_with_bytes_structs_paths_and_lists(data: Path, tiny: Path, tmp_path: Path) -> None:
    png = (data / "00.png").read_bytes()
    structs = pyarrow.table(
        {
            "image": [{"bytes": png, "path": None}, {"bytes": None, "path": "01.png"}, None],
            "text": [["one", "two"], ["three"], ["four"]],
        }
    )
    plain = pyarrow.table({"image": [png], "text": ["five"]})
    files = [data / "a.parquet", data / "b.parquet"]
    for file, table in zip(files, (structs, plain), strict=True):
        pyarrow.parquet.write_table(table, file)
    bad = Bad(9)
    found = read_parquet(files, ("image", "text"), tmp_path / "store", bad)
    assert [pair.captions for pair in found.pairs] == [("one", "two"), ("three",), ("five",)]
    assert found.pairs[2].read(1 << 20) == found.pairs[0].read(1 << 20) == png
    assert bad.reasons == {"a.parquet:3": "its image is neither bytes nor a path"}
    batch = Maker(SiglipProcessor.from_pretrained(tiny), 64, found.pairs, 0).make([0, 1, 2], Random(0))
    assert torch.equal(batch.pixel_values[0], batch.pixel_values[2])
    assert group_numbers(batch.same).tolist()[0] == group_numbers(batch.same).tolist()[2]
    with pytest.raises(TrainingError, match="has no column caption, only image, text"):
        read_parquet(files, ("image", "caption"), tmp_path / "store", bad)
    files[1].write_bytes(files[1].read_bytes().replace(b"image", b"\xffmage"))
    with pytest.raises(TrainingError, match=r"b\.parquet cannot be read: 'utf-8' codec"):
        read_parquet(files[1:], ("image", "text"), tmp_path / "store", bad)
    files[0].write_bytes(b"PAR1")
    with pytest.raises(TrainingError, match=r"a\.parquet cannot be read"):
        read_parquet(files, ("image", "text"), tmp_path / "store", bad)


def test_a_bad_picture_is_named_and_replaced(
    data: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "01.png").write_bytes(b"no picture")
    (data / "02.png").write_bytes(b"")
    finetune(recipe_of(tiny, data, tmp_path / "out", batch_size=2, max_bad_pairs=2))
    printed = capsys.readouterr()
    assert "6 steps, 2 bad pairs" in printed.out
    assert sorted(line.split(":")[0] for line in printed.err.splitlines()) == [
        "skipped 01.png",
        "skipped 02.png",
    ]
    with pytest.raises(TrainingError, match=r"--max-bad-pairs is 1|in a row cannot be used"):
        finetune(recipe_of(tiny, data, tmp_path / "more", batch_size=2, max_bad_pairs=1))


def test_more_bad_texts_than_allowed(tiny: Path, data: Path, tmp_path: Path) -> None:
    (data / "01.txt").unlink()
    recipe = recipe_of(tiny, data, tmp_path / "out", max_bad_pairs=0)
    with pytest.raises(TrainingError, match=r"1 pairs cannot be used, --max-bad-pairs is 0: 01\.png: has no"):
        read_data(recipe.data, recipe, tmp_path / "store", Bad(0))


def test_no_data(tiny: Path, tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "there is no file or folder"), (tmp_path, "holds no picture")):
        recipe = recipe_of(tiny, path, tmp_path / "out")
        with pytest.raises(TrainingError, match=said):
            read_data(recipe.data, recipe, tmp_path / "store", Bad(0))


def test_texts_are_padded_and_equal_ones_share_a_group(data: Path, tiny: Path) -> None:
    for name in ("00", "02"):
        (data / f"{name}.txt").write_text("The same caption!")
    maker = Maker(SiglipProcessor.from_pretrained(tiny), 64, read_folder(data, "{}", Bad(0)).pairs, 0)
    batch = maker.make(range(4))
    assert batch.input_ids.shape == (4, 64)
    groups = group_numbers(batch.same).tolist()
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3


def test_a_chain_of_equal_pictures_and_captions_is_one_group() -> None:
    assert len(set(group_numbers(torch.tensor([[1, 5], [2, 6], [1, 6], [3, 7]])).tolist()[:3])) == 1
    assert len(set(group_numbers(torch.tensor([[1, 5], [5, 6], [6, 1]])).tolist())) == 3


def test_scores_by_hand() -> None:
    axes = torch.eye(3)
    assert zero_shot(axes, axes, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    asked = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert best_ranks(axes, torch.tensor([0, 1, 2]), asked, torch.tensor([1, 0, 2])).tolist() == [0, 0, 0]
    # As near as a wrong one is not nearer.
    assert best_ranks(axes[:1], torch.tensor([0]), axes[[0, 0]], torch.tensor([0, 1])).tolist() == [1]
