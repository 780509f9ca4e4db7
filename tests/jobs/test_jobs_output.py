"""What a job writes, and what it refuses to write over."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siglip_client import Client, StreamResult, Unavailable
from siglip_jobs import atomic
from siglip_jobs.choice import Choice
from siglip_jobs.errors import JobError, OutputError
from siglip_jobs.lock import Lock
from siglip_jobs.shards import Shard
from siglip_search import EmbeddedFolder, SearchError
from tests.jobs.outputs import assert_same, embed, errors, files, rows

TEXTS = [f"text {number}" for number in range(23)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": TEXTS, "n": list(range(23)), "t": ["x", None] * 11 + ["y"]}), path)
    return path


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
@pytest.mark.parametrize("decode", ["gateway", "client"])
def test_a_folder_of_pictures(
    photos: Path, tmp_path: Path, client: Client, file_format: Any, decode: Any
) -> None:
    summary = embed(photos, tmp_path / "out", client, format=file_format, decode=decode, decode_processes=2)
    found = rows(tmp_path / "out")
    assert list(found) == sorted(found) and len(found) == summary.rows == 13
    assert (summary.failed, summary.finished, summary.all_right) == (2, True, False)
    good = [name for name, (_, error) in found.items() if not error]
    expected = client.embed_images([photos / name for name in good]).vectors
    np.testing.assert_allclose(np.stack([found[name][0] for name in good]), expected, rtol=0, atol=1e-6)  # type: ignore[arg-type]
    assert errors(tmp_path / "out") == {name: error for name, (_, error) in found.items() if error}
    assert [error.partition(":")[0] for error in errors(tmp_path / "out").values()] == [
        "IMAGE_UNREADABLE",
        "IMAGE_EMPTY",
    ]


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_parquet_has_the_promised_columns(texts: Path, tmp_path: Path, client: Client, dtype: Any) -> None:
    embed(texts, tmp_path / "out", client, Choice(columns=("n", "t")), dtype=dtype, rows_per_part=10)
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*")))
    dim = client.get_model().embedding_dim
    number = pa.float32() if dtype == "f32" else pa.float16()
    assert table.schema == pa.schema(
        {
            "id": pa.string(),
            "vector": pa.list_(number, dim),
            "error": pa.string(),
            "n": pa.int64(),
            "t": pa.string(),
        }
    )
    assert sorted(path.name for path in (tmp_path / "out").glob("part-*")) == [
        f"part-0000{part}.parquet" for part in range(3)
    ]
    assert table["n"].to_pylist() == list(range(23)) and table["id"][4].as_py() == "texts.parquet:4"
    expected = client.embed_texts(TEXTS, dtype=dtype).vectors
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), expected, rtol=0, atol=1e-6)


def test_npy_has_ids_and_columns_beside_it(texts: Path, tmp_path: Path, client: Client) -> None:
    embed(texts, tmp_path / "out", client, Choice(columns=("n",)), format="npy", dtype="f16")
    vectors = np.load(tmp_path / "out" / "part-00000.npy")
    lines = (tmp_path / "out" / "part-00000.ids.jsonl").read_text().splitlines()
    assert vectors.dtype == np.float16 and len(vectors) == len(lines) == 23
    assert json.loads(lines[7]) == {"id": "texts.parquet:7", "error": None, "n": 7}


def test_a_failed_row_of_parquet_is_null(photos: Path, tmp_path: Path, client: Client) -> None:
    embed(photos, tmp_path / "out", client)
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*")))
    assert table["vector"].is_null().to_pylist() == table["error"].is_valid().to_pylist()
    assert table["vector"].null_count == 2


def test_a_row_whose_id_was_there_is_counted(tmp_path: Path, client: Client) -> None:
    (tmp_path / "t.csv").write_text("id,text\na,one\nb,two\na,three\n,four\n")
    for _ in range(2):
        summary = embed(tmp_path / "t.csv", tmp_path / "out", client)
        assert (summary.rows, summary.duplicates, summary.all_right) == (3, 1, False)
        assert errors(tmp_path / "out")["a"] == "DUPLICATE_ID: row 2 has the id of an earlier row"
    np.testing.assert_allclose(
        rows(tmp_path / "out")["a"][0], client.embed_texts(["one"]).vectors[0], atol=1e-6
    )  # type: ignore[arg-type]


def test_shards_together_are_the_whole(texts: Path, tmp_path: Path, client: Client) -> None:
    embed(texts, tmp_path / "whole", client)
    sizes = [embed(texts, tmp_path / "out", client, shard=Shard(index, 3)).rows for index in range(3)]
    assert sum(sizes) == 23 and all(sizes)
    assert_same(rows(tmp_path / "out"), rows(tmp_path / "whole"))
    with pytest.raises(OutputError, match=r"out holds shard-0-of-3: the same job in other shares"):
        embed(texts, tmp_path / "out", client, shard=Shard(1, 4))
    with pytest.raises(OutputError, match="holds a job that is not in shares"):
        embed(texts, tmp_path / "whole", client, shard=Shard(1, 4))


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", ""])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(JobError, match=r"--shard is .*; it must be i/n with i from 0 to n-1"):
        Shard.parse(text)


@pytest.mark.parametrize("choice", [Choice(), Choice(id_column="n")])
def test_it_goes_on_and_computes_nothing_twice(
    texts: Path, tmp_path: Path, client: Client, choice: Choice
) -> None:
    out = tmp_path / "out"
    embed(texts, out, client, choice, rows_per_part=10)
    before = files(out)
    cut_off(out, 1)
    assert embed(texts, out, client, choice, rows_per_part=4).done_now == 13
    after = files(out)
    assert after["part-00000.parquet"] == before["part-00000.parquet"] and len(after) == 5
    assert embed(texts, out, client, choice).done_now == 0
    assert files(out) == after
    embed(texts, tmp_path / "whole", client, choice)
    assert_same(rows(out), rows(tmp_path / "whole"))


def cut_off(out: Path, parts: int) -> None:
    """As it was after so many parts."""
    manifest = json.loads((out / "manifest.json").read_text())
    for part in manifest["parts"][parts:]:
        for name in part["files"]:
            (out / name).unlink()
    manifest["parts"] = manifest["parts"][:parts]
    manifest["finished"] = False
    (out / "manifest.json").write_text(json.dumps(manifest))


class Killed(BaseException):
    pass


def test_killed_at_every_step_of_writing(
    texts: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"format": "npy", "rows_per_part": 12}  # each part has two files
    embed(texts, tmp_path / "whole", client, **options)
    steps = {"write_unfinished": atomic.write_unfinished, "finish": atomic.finish, "sync": atomic.sync}

    def kill_at(countdown: list[int]) -> None:
        for name, step in steps.items():

            def counted(*given: Any, step: Any = step) -> Any:
                if countdown[0] == 0:
                    raise Killed
                countdown[0] -= 1
                return step(*given)

            monkeypatch.setattr(atomic, name, counted)

    for kill in range(100):
        out = tmp_path / str(kill)
        kill_at(left := [kill])
        try:
            embed(texts, out, client, **options)
        except Killed:
            kept = files(out)
            counted = {name for part in parts_of(out) for name in part["files"]}
            kill_at([1000])
            embed(texts, out, client, **options)
            assert all(files(out)[name] == kept[name] for name in counted & kept.keys())
        assert_same(rows(out), rows(tmp_path / "whole"))
        assert not list(out.glob(f"*{atomic.UNFINISHED}"))
        if left[0]:
            break
    assert kill > 20, "it was hardly ever killed"


def parts_of(out: Path) -> list[Any]:
    manifest = out / "manifest.json"
    return json.loads(manifest.read_text())["parts"] if manifest.exists() else []


def test_what_differs_is_named(texts: Path, photos: Path, tmp_path: Path, client: Client) -> None:
    out = tmp_path / "out"
    embed(texts, out, client)
    for changed, message in (
        ({"dtype": "f16"}, "dtype 'f32', and now it is 'f16'"),
        ({"format": "npy"}, "option format 'parquet', and now it is 'npy'"),
        ({"choice": Choice(columns=("n",))}, r"option columns \[\], and now it is \['n'\]"),
        ({"choice": Choice(text_column="t")}, "source text_column 'text', and now it is 't'"),
        ({"choice": Choice(id_column="t")}, "source id_column not given, and now it is 't'"),
    ):
        with pytest.raises(OutputError, match=f"out holds a job with {message}"):
            embed(texts, out, client, **changed)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="source kind 'table', and now it is 'images'"):
        embed(photos, out, client)
    manifest = (out / "manifest.json").read_text()
    fingerprint = client.get_model().fingerprint
    (out / "manifest.json").write_text(manifest.replace(fingerprint, "abc"))
    with pytest.raises(OutputError, match=f"model fingerprint 'abc', and now it is '{fingerprint}'"):
        embed(texts, out, client)


def test_a_table_that_changed_is_refused(tmp_path: Path, client: Client) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text\none\ntwo\n")
    source, out = f"{tmp_path}/*.csv", tmp_path / "out"
    embed(source, out, client)
    os.utime(tmp_path / "b.csv", (1, 1))
    with pytest.raises(OutputError, match=r"the source's file b\.csv was changed since the job began"):
        embed(source, out, client)
    (tmp_path / "b.csv").unlink()
    with pytest.raises(OutputError, match=r"the source's file b\.csv is not there any more"):
        embed(source, out, client)


def test_a_folder_may_grow_and_shrink(photos: Path, tmp_path: Path, client: Client) -> None:
    embed(photos, tmp_path / "out", client)
    before = files(tmp_path / "out")
    (photos / "0.jpg").rename(photos / "00.jpg")
    summary = embed(photos, tmp_path / "out", client)
    assert (summary.rows, summary.done_now, summary.vanished, summary.vanished_ids) == (14, 1, 1, ["0.jpg"])
    found = rows(tmp_path / "out")
    np.testing.assert_array_equal(found["0.jpg"][0], found["00.jpg"][0])  # type: ignore[arg-type]
    assert before.items() < files(tmp_path / "out").items()


def test_a_folder_with_other_things_is_refused_and_left_alone(
    texts: Path, tmp_path: Path, client: Client
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in "abcdefg":
        (out / name).touch()
    with pytest.raises(
        OutputError, match="not empty, it holds a, b, c, d, e and 2 more: give a new or an empty"
    ):
        embed(texts, out, client)
    assert sorted(path.name for path in out.iterdir()) == list("abcdefg")
    with pytest.raises(OutputError, match="is a file, and --out must be a folder"):
        embed(texts, texts, client)


def manifest_with(**changed: Any) -> str:
    right = {
        "format": "siglip-embeddings", "version": 1, "model": {}, "embedding_dim": 8, "dtype": "f32",
        "source": {}, "options": {}, "finished": False, "parts": [],
    }  # fmt: skip
    return json.dumps(right | changed)


def part_with(**changed: Any) -> dict[str, Any]:
    return {"files": {}, "rows": 1, "failed": 0, "end": 1} | changed


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "is no manifest of a job"),
        ('{"format": "other"}', "its format is 'other'"),
        ('{"format": "siglip-embeddings", "version": 9}', "its version is 9, and this program's is 1"),
        (manifest_with(model=[]), r"its model is \[\]"),
        (manifest_with(parts=[part_with(rows="x")]), "its number of rows is 'x'"),
        (manifest_with(parts=[part_with(files={"../a": 1})]), r"it names the file '\.\./a' with 1 bytes"),
        (manifest_with(parts=[part_with(files=["a"])]), r"its list of files is \['a'\]"),
        (
            manifest_with(parts=[part_with(files={"a": 1, "b": 1}, sha256={"a": ""})]),
            r"it has checksums of \['a'\] for \['a', 'b'\]",
        ),
    ],
)
def test_a_manifest_of_something_else(
    texts: Path, tmp_path: Path, client: Client, manifest: str, message: str
) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(OutputError, match=message):
        embed(texts, tmp_path, client)


def test_parts_that_are_damaged_or_foreign_are_named(texts: Path, tmp_path: Path, client: Client) -> None:
    out = tmp_path / "out"
    embed(texts, out, client)
    part = out / "part-00000.parquet"
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    with pytest.raises(OutputError, match=rf"part-00000.parquet has {len(data) - 1} bytes, not {len(data)}"):
        embed(texts, out, client)
    part.unlink()
    with pytest.raises(OutputError, match=r"part-00000.parquet is missing"):
        embed(texts, out, client)
    part.write_bytes(data)
    (out / "part-00001.parquet").touch()
    with pytest.raises(OutputError, match=r"part-00001.parquet is no part of the job"):
        embed(texts, out, client)


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_damage_of_the_same_size_is_found_when_asked(
    texts: Path, tmp_path: Path, client: Client, format: Any
) -> None:
    out = tmp_path / "out"
    embed(texts, out, client, format=format)
    embed(texts, out, client, format=format, verify=True)
    part = out / f"part-00000.{format}"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    if format == "parquet":  # which has checksums of its own
        with pytest.raises(SearchError, match=rf"cannot read .*{part.name}: .*CRC"):
            list(EmbeddedFolder(out).blocks())
    with pytest.raises(OutputError, match=rf"{part.name} is not as it was written \(its SHA-256 differs\)"):
        embed(texts, out, client, format=format, verify=True)


def test_parts_without_checksums_are_counted(texts: Path, tmp_path: Path, client: Client) -> None:
    """Those of an older version; what has checksums is compared all the same."""
    out = tmp_path / "out"
    embed(texts, out, client, rows_per_part=10)
    manifest = json.loads((out / "manifest.json").read_bytes())
    del manifest["parts"][0]["sha256"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    summary = embed(texts, out, client, verify=True)
    assert (summary.unverified_parts, summary.all_right) == (1, False)
    summary = embed(texts, out, client)
    assert (summary.unverified_parts, summary.all_right) == (0, True)


def test_a_checksum_is_that_of_the_file(texts: Path, tmp_path: Path, client: Client) -> None:
    embed(texts, tmp_path / "out", client, format="npy")
    for part in json.loads((tmp_path / "out" / "manifest.json").read_bytes())["parts"]:
        assert part["sha256"] == {
            name: hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() for name in part["files"]
        }


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_a_part_that_cannot_be_read_is_named(
    photos: Path, tmp_path: Path, client: Client, format: Any
) -> None:
    out = tmp_path / "out"
    embed(photos, out, client, format=format)
    part = next(out.glob("part-00000.parquet" if format == "parquet" else "part-00000.ids.jsonl"))
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(OutputError, match=rf"cannot read .*{part.name}: "):
        embed(photos, out, client, format=format)


def test_one_job_at_a_time(texts: Path, tmp_path: Path, client: Client) -> None:
    with Lock(tmp_path), pytest.raises(OutputError, match=f"is being written by process {os.getpid()} on "):
        (tmp_path / "manifest.json").write_text("{}")
        embed(texts, tmp_path, client)


def test_a_source_without_items(tmp_path: Path, client: Client) -> None:
    (tmp_path / "t.csv").write_text("text\n")
    with pytest.raises(JobError, match="the source holds no item"):
        embed(tmp_path / "t.csv", tmp_path / "out", client)
    assert not (tmp_path / "out").exists()


def test_answers_in_any_order_are_written_in_that_of_the_source(
    texts: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_stream = client.embed_stream
    monkeypatch.setattr(
        client, "embed_stream", lambda *given, **options: reversed(list(embed_stream(*given, **options)))
    )
    embed(texts, tmp_path / "out", client, rows_per_part=10)
    monkeypatch.undo()
    assert list(rows(tmp_path / "out")) == [f"texts.parquet:{number}" for number in range(23)]
    embed(texts, tmp_path / "whole", client)
    assert_same(rows(tmp_path / "out"), rows(tmp_path / "whole"))


def test_what_is_answered_when_the_service_goes_is_kept(
    texts: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_stream = client.embed_stream

    def goes_away(*given: Any, **options: Any) -> Iterator[StreamResult]:
        yield from islice(embed_stream(*given, ordered=True, **options), 12)
        raise Unavailable("nobody is there")

    monkeypatch.setattr(client, "embed_stream", goes_away)
    with pytest.raises(Unavailable, match="nobody is there"):
        embed(texts, tmp_path / "out", client, rows_per_part=10)
    assert len(rows(tmp_path / "out")) == 12
    monkeypatch.undo()
    assert embed(texts, tmp_path / "out", client).done_now == 11
    assert len(rows(tmp_path / "out")) == 23


def test_vectors_of_another_model_are_not_written(
    texts: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = client.get_model()
    monkeypatch.setattr(client, "get_model", lambda **_: replace(model, fingerprint="other"))
    with pytest.raises(JobError, match=f"the served model changed from other to {model.fingerprint}: serve"):
        embed(texts, tmp_path / "out", client)
    assert not (tmp_path / "out").exists()


def test_a_gateway_that_does_not_say_how_it_resizes(
    photos: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(client.get_model(), image_resample=None)
    monkeypatch.setattr(client, "get_model", lambda **_: model)
    with pytest.raises(JobError, match="does not say how it resizes pictures: give --decode gateway"):
        embed(photos, tmp_path / "out", client, decode="client")


def test_a_source_of_strange_names(tmp_path: Path, client: Client) -> None:
    folder = tmp_path / "st\udcffrange"
    folder.mkdir()
    (folder / "t.csv").write_bytes(b'id,text,n\n\xfe,one,\xfd\nb,\xff,2\n"open')
    summary = embed(f"{folder}/t.csv", tmp_path / "out", client, Choice(columns=("n",)), format="parquet")
    assert summary.failed == 2
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table["id"].to_pylist() == ["\\xfe", "b", "t.csv:2"] and table["n"][0].as_py() == "\\xfd"
    told = table["error"].to_pylist()
    assert (
        told[0] is None and told[1].startswith("TEXT_NOT_UNICODE") and "st\\xffrange/t.csv: line" in told[2]
    )
