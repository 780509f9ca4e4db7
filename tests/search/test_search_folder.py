"""Reading embedded folders, right ones and others."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siglip_search import EmbeddedFolder, Row, SearchError
from tests.search.folders import FINGERPRINT, random_vectors, write_folder


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_rows_have_numbers_ids_and_vectors(tmp_path: Path, format: str) -> None:
    vectors = random_vectors(700)
    vectors[20] = np.nan
    folder = EmbeddedFolder(write_folder(tmp_path, vectors, format=format))
    assert (folder.rows, folder.dim, folder.fingerprint, folder.complete) == (700, 16, FINGERPRINT, True)
    rows = folder.find(["00650.png", "00005.png", "00650.png"])
    assert rows == [Row(650, "00650.png"), Row(5, "00005.png"), Row(650, "00650.png")]
    np.testing.assert_allclose(folder.vectors(rows), vectors[[650, 5, 650]], atol=1e-6)
    assert folder.ids([699, 0, 234, 0]) == ["00699.png", "00000.png", "00234.png", "00000.png"]
    for first in (0, 1, 233, 234, 699, 700):
        blocks = list(folder.blocks(first, rows=50))
        assert [start for start, _ in blocks] == sorted({start for start, _ in blocks})
        together = np.concatenate([block for _, block in blocks]) if blocks else np.empty((0, 16))
        np.testing.assert_allclose(together, vectors[first:], atol=1e-6)
    names, found = zip(*folder.items(), strict=True)
    assert list(chain.from_iterable(names)) == [f"{number:05}.png" for number in range(700) if number != 20]
    np.testing.assert_allclose(np.concatenate(found), np.delete(vectors, 20, axis=0), atol=1e-6)
    with pytest.raises(SearchError, match="no row with the id 'gone'"):
        folder.find(["00005.png", "gone"])
    with pytest.raises(SearchError, match=r"'00020.png' has no vector in .*: it failed"):
        folder.vectors(folder.find(["00020.png"]))


def test_what_a_job_has_so_far(tmp_path: Path) -> None:
    folder = EmbeddedFolder(write_folder(tmp_path, random_vectors(30), complete=False))
    assert not folder.complete
    (tmp_path / "part-00003.parquet").write_bytes(b"what a killed job left")
    assert EmbeddedFolder(tmp_path).rows == 30


def test_shares_are_one_folder(tmp_path: Path) -> None:
    vectors = random_vectors(50)
    write_folder(tmp_path / "shard-10-of-11", vectors[30:], ids=[f"b{number}" for number in range(20)])
    write_folder(tmp_path / "shard-2-of-11", vectors[:30])
    folder = EmbeddedFolder(tmp_path)
    assert (folder.rows, folder.complete) == (50, False)
    assert folder.ids([0, 30, 49]) == ["00000.png", "b0", "b19"]
    np.testing.assert_allclose(folder.vectors(folder.find(["b3"])), vectors[33:34], atol=1e-6)
    write_folder(tmp_path / "shard-3-of-11", vectors, fingerprint="other")
    said = rf"shard-3-of-11 \(other\) and .*shard-2-of-11 \({FINGERPRINT}\) are of different models"
    with pytest.raises(SearchError, match=said):
        EmbeddedFolder(tmp_path)


def test_shares_of_two_jobs_are_not_one_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "shard-0-of-2", random_vectors(3))
    write_folder(tmp_path / "shard-1-of-4", random_vectors(3))
    with pytest.raises(SearchError, match="holds shares of several jobs, of 2 and of 4"):
        EmbeddedFolder(tmp_path)


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_a_part_that_has_no_name_yet(tmp_path: Path, format: str) -> None:
    """A job lists a part before it gives its files their names."""
    write_folder(tmp_path, random_vectors(30), format=format)
    for path in tmp_path.glob("part-00001.*"):
        path.rename(f"{path}.unfinished")
    folder = EmbeddedFolder(tmp_path)
    for path in tmp_path.glob("part-00002.ids.jsonl"):
        path.rename(f"{path}.unfinished")
    assert folder.ids([15, 25]) == ["00015.png", "00025.png"]


def test_the_last_share_completes_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "shard-0-of-2", random_vectors(5))
    assert not EmbeddedFolder(tmp_path).complete
    write_folder(tmp_path / "shard-1-of-2", random_vectors(5), complete=False)
    assert not EmbeddedFolder(tmp_path).complete
    write_folder(tmp_path / "shard-1-of-2", random_vectors(5))
    assert EmbeddedFolder(tmp_path).complete


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"kind": "images"}, "images"),
        ({"kind": "lines", "paths": False}, "texts"),
        ({"kind": "lines", "paths": True}, "images"),
        ({"kind": "table", "text_column": "caption"}, "texts"),
        ({"kind": "table", "image_column": "jpg"}, "images"),
    ],
)
def test_what_was_embedded(tmp_path: Path, source: dict[str, object], kind: str) -> None:
    assert EmbeddedFolder(write_folder(tmp_path, random_vectors(2), **source)).kind == kind


def manifest(folder: Path, **changed: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def damage(folder: Path, what: str) -> None:
    part, numbers = folder / "part-00001.parquet", folder / "part-00001.npy"
    match what:
        case "no folder":
            folder.rename(folder.with_name("gone"))
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "no JSON":
            (folder / "manifest.json").write_text("{")
        case "other JSON":
            (folder / "manifest.json").write_text("[1]")
        case "other format":
            manifest(folder, format="parquet-of-mine")
        case "other version":
            manifest(folder, version=2)
        case "other dim":
            manifest(folder, embedding_dim=17)
        case "no dim":
            manifest(folder, embedding_dim="many")
        case "no parts":
            manifest(folder, parts=[{"rows": 3}])
        case "gone":
            part.unlink()
        case "no Parquet":
            part.write_bytes(b"PAR1 or not")
        case "damaged":
            data = part.read_bytes()
            part.write_bytes(data[:4] + bytes(200) + data[204:])
        case "one bit":
            data = part.read_bytes()
            part.write_bytes(data.replace(b"00010.png", b"00011.png", 1))
        case "a name that is no text":
            part.write_bytes(part.read_bytes().replace(b"vector", b"\xffector"))
        case "an old one, one byte":  # without checksums
            pq.write_table(pq.read_table(part), part, use_dictionary=False, compression="none")
            part.write_bytes(part.read_bytes().replace(b"00015.png", b"\xff0015.png"))
        case "other rows":
            manifest(folder, parts=[{"files": {"part-00001.parquet": 1}, "rows": 11}])
        case "no part yet":
            (folder / "manifest.json").rename(folder / ".lock")
        case "no column":
            pq.write_table(pa.table({"id": ["a"], "embedding": [1.0]}), part)
        case "no list":
            pq.write_table(pa.table({"id": ["a"], "vector": [1.0]}), part)
        case "npy cut short":
            numbers.write_bytes(numbers.read_bytes()[:-7])
        case "npy without the end of its header":
            numbers.write_bytes(numbers.read_bytes().replace(b"}", b" ", 1))
        case "npy of one column":
            np.save(numbers, np.zeros(3, np.float32))
        case "no ids":
            (folder / "part-00001.ids.jsonl").unlink()
        case "fewer ids":
            (folder / "part-00001.ids.jsonl").write_text('{"id": "a"}\n')
        case "no id":
            (folder / "part-00001.ids.jsonl").write_text('{"name": "a"}\n' * 10)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no folder", "there is no folder"),
        ("no manifest", "no embedded folder: it has no manifest.json"),
        ("no JSON", "not the manifest of an embedded folder"),
        ("other JSON", "not the manifest of an embedded folder"),
        ("other format", "not the manifest of an embedded folder"),
        ("other version", "version 2; this program reads version 1"),
        ("other dim", "part-00000.parquet has vectors of 16 numbers, but the folder's manifest says 17"),
        ("no dim", "not the manifest"),
        ("no parts", "does not list the parts"),
        ("gone", "cannot read .*part-00001.parquet: .*No such file"),
        ("no Parquet", "cannot read .*part-00001.parquet"),
        ("damaged", "cannot read .*part-00001.parquet"),
        ("one bit", "cannot read .*part-00001.parquet: .*CRC"),
        ("a name that is no text", "cannot read .*part-00001.parquet: 'utf-8' codec"),
        ("an old one, one byte", "cannot read .*part-00001.parquet: 'utf-8' codec"),
        ("other rows", "part-00001.parquet has 10 rows, and manifest.json says 11"),
        ("no part yet", "the job of .* has not written a part yet"),
        ("no column", "no column 'vector'; its columns: id, embedding"),
        ("no list", "the column vector is double, not a fixed-size list"),
        ("npy cut short", "cannot read .*part-00001.npy"),
        ("npy without the end of its header", "cannot read .*part-00001.npy: .*multi-line"),
        ("npy of one column", r"holds float32 \[3\], not rows of floats"),
        ("no ids", "cannot read .*part-00001.ids.jsonl: No such file"),
        ("fewer ids", "has 1 lines, but part-00001.npy has 10 rows"),
        ("no id", "line 6: not an object with an id"),
    ],
)
def test_a_folder_that_cannot_be_read_says_why(tmp_path: Path, what: str, said: str) -> None:
    format = "npy" if "npy" in what or "id" in what else "parquet"
    place = write_folder(tmp_path / "vectors", random_vectors(30), format=format)
    damage(place, what)
    with pytest.raises(SearchError, match=said) as caught:
        EmbeddedFolder(place).ids([15])
    assert "\n" not in str(caught.value)
