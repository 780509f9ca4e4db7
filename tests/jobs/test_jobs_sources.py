"""What a source gives: ids, contents, columns, in an order that is the same each time."""

import contextlib
import io
import json
import os
import random
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siglip_jobs import files, lines, names, parquet, tars
from siglip_jobs.choice import Choice
from siglip_jobs.errors import JobError, Problem
from siglip_jobs.rows import Content, Encoded, loaded
from siglip_jobs.sources import Source, open_source


def ids(source: Source) -> list[str]:
    return [row.id for row in source.rows()]


def read(content: Content) -> Any:
    return loaded(content, 1000)


def contents(source: Source) -> dict[str, Any]:
    return {row.id: read(row.content) for row in source.rows()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "z/c.webp", "z/deep/d.tiff", "notes.txt", ".hidden.png", "z/.git/e.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def test_a_folder_gives_its_images_sorted_by_relative_path(photos: Path) -> None:
    source = open_source(str(photos))
    assert ids(source) == ["a.png", "b.JPG", "z/c.webp", "z/deep/d.tiff"]
    assert contents(source)["z/c.webp"] == b"z/c.webp"
    assert source.total() == 4 and source.identity()["root"] == str(photos)


def test_links_are_followed_into_each_real_folder_once(photos: Path, tmp_path: Path) -> None:
    (photos / "z" / "up").symlink_to("..", target_is_directory=True)
    (photos / "z" / "itself").symlink_to("itself")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(b"x")
    (photos / "m").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (photos / "n").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert ids(open_source(str(photos))) == ["a.png", "b.JPG", "m/x.png", "z/c.webp", "z/deep/d.tiff"]


def test_what_cannot_be_read_is_that_item(photos: Path) -> None:
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "large.png").write_bytes(bytes(1001))
    os.mkfifo(photos / "pipe.png")
    found = contents(open_source(str(photos)))
    assert found["gone.png"] == Problem("IMAGE_NOT_READ", "No such file or directory")
    assert found["large.png"].reason == "IMAGE_TOO_LARGE"
    assert found["pipe.png"] == Problem("IMAGE_NOT_READ", "not a regular file")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["a.png"]),
        ("**/*.webp", ["z/c.webp"]),
        ("*.*", ["a.png", "b.JPG"]),
        ("z/**/*.tiff", ["deep/d.tiff"]),
        ("*/[a-c].*", ["z/c.webp"]),
        ("{a,z/c}.{png,webp}", None),
        ("{a.png,z/c.webp}", ["a.png", "z/c.webp"]),
        ("b.JPG", ["b.JPG"]),
    ],
)
def test_globs(photos: Path, pattern: str, found: list[str] | None) -> None:
    if found is None:
        with pytest.raises(JobError, match=r"there is no file or folder .*a\.webp \(of "):
            open_source(f"{photos}/{pattern}")
    else:
        assert ids(open_source(f"{photos}/{pattern}")) == found


def test_names_of_any_bytes_are_kept(photos: Path) -> None:
    raw = os.fsencode(photos) + b"/\xff\\x.png"
    with open(raw, "wb") as file:  # noqa: PTH123  # bytes
        file.write(b"strange")
    assert contents(open_source(str(photos)))["\\xff\\\\x.png"] == b"strange"


@pytest.mark.parametrize("name", ["plain", "a\\b", "a\\\\xff", "\udcff", "\\\udc80x41", "\ud800", "\\u1234"])
def test_escaped_names_come_back(name: str) -> None:
    names.escape(name).encode()
    assert names.unescape(names.escape(name)) == name


def test_brace_ranges() -> None:
    assert files.braces("s-{008..010}.tar") == ["s-008.tar", "s-009.tar", "s-010.tar"]
    assert files.braces("{a,b}{1..2}") == ["a1", "a2", "b1", "b2"]
    assert files.braces("{plain}") == ["{plain}"]


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def sample(number: int) -> dict[str, bytes]:
    about = {"caption": f"no {number}", "width": number}
    return {f"{number:03}.jpg": b"image %d" % number, f"{number:03}.json": json.dumps(about).encode()}


def test_shards_of_samples(tmp_path: Path) -> None:
    tar(tmp_path / "s-0.tar", sample(1) | sample(2))
    tar(tmp_path / "s-1.tar", sample(1) | {"004.txt": b"alone"})
    source = open_source(f"{tmp_path}/s-{{0..1}}.tar", Choice(columns=("caption", "width")))
    assert contents(source) == {
        "s-0.tar/001": b"image 1",
        "s-0.tar/002": b"image 2",
        "s-1.tar/001": b"image 1",
        "s-1.tar/004": Problem("IMAGE_MISSING", "the sample has no image, only txt"),
    }
    assert [row.columns for row in source.rows()][1:] == [("no 2", "2"), ("no 1", "1"), (None, None)]


def test_links_and_holes_in_a_tar_are_items_that_failed(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": b"a"})
    with tarfile.open(path, "a") as file:
        links = {"b.png": tarfile.LNKTYPE, "c.png": tarfile.SYMTYPE, "d.txt": tarfile.SYMTYPE}
        for name, kind in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a.png"
            file.addfile(link)
    (tmp_path / "e.png").write_bytes(b"e")
    os.truncate(tmp_path / "e.png", 1 << 20)
    holes = tmp_path / "y.tar"
    subprocess.run(["tar", "-cSf", holes, "--hole-detection=raw", "-C", tmp_path, "e.png"], check=True)
    found = contents(open_source(f"{tmp_path}/*.tar"))
    reasons = {name: getattr(content, "reason", content) for name, content in found.items()}
    assert reasons == {
        "x.tar/a": b"a",
        "x.tar/b": "LINK_NOT_READ",
        "x.tar/c": "LINK_NOT_READ",
        "x.tar/d": "IMAGE_MISSING",
        "y.tar/e": "SPARSE_NOT_READ",
    }
    assert open_source(str(path), Choice(columns=("png",))).column_types == {"png": None}
    captions = [row.columns for row in open_source(str(path), Choice(columns=("png",))).rows()]
    assert captions[:2] == [("a",), ("",)]


def test_several_images_of_a_sample_are_items_each(tmp_path: Path) -> None:
    plain = tar(tmp_path / "plain.tar", {"d/trip.day.1.jpg": b"1", "d/trip.day.2.jpg": b"2"})
    assert contents(open_source(str(plain))) == {
        "plain.tar/d/trip.day.1.jpg": b"1",
        "plain.tar/d/trip.day.2.jpg": b"2",
    }
    chosen = open_source(str(plain), Choice(image_column="day.2.jpg"))
    assert contents(chosen) == {"plain.tar/d/trip": b"2"}


def test_texts_and_ids_of_a_tar(tmp_path: Path) -> None:
    shard = tar(tmp_path / "s.tar", sample(7) | {"008.txt": b"t"})
    by_caption = open_source(str(shard), Choice(text_column="caption", id_column="width"))
    assert contents(by_caption) == {
        "7": "no 7",
        "s.tar/008": Problem("TEXT_MISSING", "the sample has no 'caption'"),
    }
    with pytest.raises(
        JobError, match=r"the first sample of .* has no 'title', only jpg, json, caption, width"
    ):
        open_source(str(shard), Choice(text_column="title"))


def test_a_shard_that_ends_early_is_one_item(tmp_path: Path) -> None:
    whole = tar(tmp_path / "s-0.tar", sample(1) | {"002.jpg": bytes(5000)})
    whole.write_bytes(whole.read_bytes()[:-9000])
    tar(tmp_path / "s-1.tar", sample(3))
    found = contents(open_source(f"{tmp_path}/s-*.tar"))
    assert found.pop("s-0.tar").reason == "SHARD_UNREADABLE"
    assert found["s-1.tar/003"] == b"image 3" and found["s-0.tar/001"] == b"image 1"


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w:gz"):
        pass
    with pytest.raises(JobError, match="is no tar that can be read"):
        open_source(f"{tmp_path}/s.tar")


ROWS = {"key": [10, 11, 12, 13], "caption": ["a", None, "", "d"], "size": [1.5, 2.5, None, 4.5]}


@pytest.fixture(params=["parquet", "csv", "jsonl"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"t.{request.param}"
    rows = [dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(ROWS), path, row_group_size=2)
    elif path.suffix == ".csv":
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join([",".join(ROWS), *lines]) + "\n", encoding="utf-8-sig")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_tables_of_texts(table: Path) -> None:
    source = open_source(str(table), Choice(columns=("size",)))
    rows = list(source.rows())
    assert [row.id for row in rows] == [f"{table.name}:{number}" for number in range(4)]
    missing = "" if table.suffix == ".csv" else Problem("TEXT_MISSING", "'caption' is empty")
    assert [read(row.content) for row in rows] == ["a", missing, "", "d"]
    assert [row.columns[0] for row in rows[::3]] == (
        [1.5, 4.5] if table.suffix == ".parquet" else ["1.5", "4.5"]
    )
    assert source.total() == (4 if table.suffix == ".parquet" else None)
    assert not source.may_repeat


@pytest.mark.parametrize("after", [1, 2, 3])
def test_tables_go_on_where_they_were(table: Path, after: int) -> None:
    for choice in (Choice(), Choice(id_column="key")):
        whole = {row.position: row for row in open_source(str(table), choice).rows()}
        rest = {row.position: row for row in open_source(str(table), choice).rows(after)}
        assert [rest[position] for position in range(after, 4)] == [
            whole[position] for position in range(after, 4)
        ]
        if choice.id_column:
            assert [row.id for row in rest.values()] == ["10", "11", "12", "13"]


@pytest.mark.parametrize("option", ["text_column", "id_column", "columns"])
def test_a_column_that_is_not_there(table: Path, option: str) -> None:
    asked: Any = {option: ("nix",) if option == "columns" else "nix"}
    with pytest.raises(JobError, match=r"has no column 'nix' \(--.*\), only key, caption, size"):
        open_source(str(table), Choice(**asked))


def test_what_to_embed_must_be_clear(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"], "text": ["y"]}), tmp_path / "both.parquet")
    with pytest.raises(JobError, match=r"several columns .* \(image, text\): give --text-column"):
        open_source(f"{tmp_path}/both.parquet")
    pq.write_table(pa.table({"foo": [b"x"]}), tmp_path / "none.parquet")
    with pytest.raises(JobError, match=r"no column of a usual name: give --text-column.*its columns are foo"):
        open_source(f"{tmp_path}/none.parquet")
    with pytest.raises(JobError, match="give one of --text-column, --path-column, not several"):
        Choice(text_column="a", path_column="b")


def test_images_in_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"file")
    held: list[Any] = [{"bytes": b"inside", "path": None}, {"bytes": None, "path": "x.png"}, None]
    pq.write_table(pa.table({"image": held}), tmp_path / "t.parquet")
    found = list(contents(open_source(f"{tmp_path}/t.parquet")).values())
    assert found == [b"inside", b"file", Problem("IMAGE_MISSING", "'image' is empty")]


def test_images_in_json_are_base64_and_paths_are_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"file")
    lines = ['{"png": "aGk=", "name": "x.png"}', '{"png": "?", "name": "../gone.png"}', "[1]", "{"]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    found = list(contents(open_source(f"{tmp_path}/t.jsonl", Choice(image_column="png"))).values())
    assert found[0] == b"hi" and [problem.reason for problem in found[1:]] == [
        "IMAGE_UNREADABLE",
        "ROW_UNREADABLE",
        "ROW_UNREADABLE",
    ]
    by_path = open_source(f"{tmp_path}/t.jsonl", Choice(path_column="name"))
    assert ids(by_path) == ["x.png", "../gone.png", "t.jsonl:2", "t.jsonl:3"] and by_path.may_repeat
    assert contents(by_path)["x.png"] == b"file"


def test_a_table_that_breaks_is_one_item(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\nfine\n"never closed\n')
    (tmp_path / "b.csv").write_text("text\ngood\n")
    found = contents(open_source(f"{tmp_path}/*.csv"))
    assert (found["a.csv:0"], found["b.csv:0"]) == ("fine", "good")
    assert found["a.csv:1"].reason == "FILE_UNREADABLE"


def test_tables_go_on_behind_a_file_that_is_damaged(tmp_path: Path) -> None:
    """Rows that cannot be read any more take no places, whether they are skipped or not."""
    rows = [f"a{number}" * 50 for number in range(30)]
    pq.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", row_group_size=10, compression="none")
    pq.write_table(pa.table({"text": ["b0", "b1"]}), tmp_path / "b.parquet")
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    with (tmp_path / "a.parquet").open("r+b") as file:
        file.seek(group.dictionary_page_offset)
        file.write(b"\xff" * group.total_compressed_size)
    whole = list(open_source(f"{tmp_path}/*.parquet").rows())
    assert [row.id for row in whole[10:]] == ["a.parquet:10", "b.parquet:0", "b.parquet:1"]
    for after in range(len(whole)):
        assert list(open_source(f"{tmp_path}/*.parquet").rows(after)) == whole[after:]


def test_a_line_with_more_fields_than_columns_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a dog, a cat\n2,fine\n")
    first, second = open_source(str(tmp_path / "a.csv")).rows()
    assert isinstance(first.content, Problem) and read(second.content) == "fine"
    assert first.content.message == "line 2 has 3 fields, and the first line names 2"
    (tmp_path / "b.csv").write_text("id,text,text\n1,a,b\n")
    with pytest.raises(JobError, match="names the column 'text' twice"):
        open_source(str(tmp_path / "b.csv"))


def test_another_list_of_images_is_another_source(photos: Path) -> None:
    places = (str(photos), f"{photos}/*", f"{photos}/{{a,b}}.*", f"{photos}/{{a,n}}*.png")
    assert len({json.dumps(open_source(place).identity()) for place in places}) == len(places)


def test_several_tables_must_agree(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": ["1"]}), tmp_path / "b.parquet")
    assert contents(open_source(str(tmp_path))) == {"a.parquet:0": "a", "b.parquet:0": "b"}
    with pytest.raises(JobError, match="has string in column 'n', and the first file has int64"):
        open_source(str(tmp_path), Choice(columns=("n",)))


@pytest.mark.parametrize("length", [9, 10, 11, 20, 25])
def test_lines_that_never_end_are_one_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Of ten bytes here, with the end of the line."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    held = b"one\n" + b"x" * (length - 1) + b"\ntwo\n" + b"y" * length
    first, second, third, fourth = contents(open_source("-", stdin=io.BytesIO(held))).values()
    assert (first, third) == ("one", "two")
    assert (second == "x" * (length - 1)) == (length <= 10)
    assert length <= 10 or second.reason == "LINE_TOO_LONG"
    assert (fourth == "y" * length) == (length < 10)
    monkeypatch.setattr(lines, "MAX_FIELD_CHARACTERS", 30)
    objects = [json.dumps({"text": "a" * size}) for size in (3, 50, 4)]
    (tmp_path / "a.jsonl").write_text("\n".join(objects))
    found = [row.content for row in open_source(str(tmp_path / "a.jsonl")).rows()]
    assert [read(found[0]), read(found[2])] == ["aaa", "aaaa"]
    assert isinstance(found[1], Problem) and found[1].message == "line 2 has more than 30 characters"


def test_large_rows_of_parquet_are_taken_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BYTES_AT_ONCE", 1000)
    rows = [bytes([number]) * 900 for number in range(20)]
    pq.write_table(
        pa.table({"image": rows}), tmp_path / "a.parquet", use_dictionary=False, compression="none"
    )
    taken = parquet.Parquet().values(str(tmp_path / "a.parquet"), ["image"])
    assert [row["image"] for row in taken] == rows
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        sizes: list[int] = []
        batches = file.iter_batches
        monkeypatch.setattr(
            file, "iter_batches", lambda size, **kept: sizes.append(size) or batches(size, **kept)
        )
        assert len(list(parquet._rows(file, 0, ["image"]))) == 20
    assert sizes == [1]


def test_standard_input() -> None:
    source = open_source("-", stdin=io.BytesIO(b"\xef\xbb\xbfone\r\n\n\xff\nlast"))
    assert contents(source) == {"0": "one", "1": "", "2": "\udcff", "3": "last"}
    paths = open_source("-", paths=True, stdin=io.BytesIO(b"/dev/null\n\n"))
    assert [(row.id, read(row.content)) for row in paths.rows()] == [
        ("/dev/null", Problem("IMAGE_NOT_READ", "not a regular file")),
        ("", Problem("PATH_MISSING", "the line is empty")),
    ]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gone", "there is no file or folder gone"),
        ("gone/*.png", "there is no folder gone"),
        ("", "the name of SOURCE is empty"),
        ("empty", "empty holds nothing to embed"),
        ("empty/*.csv", "no file matches empty/"),
        ("x.doc", "x.doc ends in .doc"),
        ("mixed", r"holds files of several kinds \(.csv .jsonl\)"),
        ("bad.parquet", "bad.parquet is no Parquet file"),
        ("empty.csv", "empty.csv is empty"),
    ],
)
def test_what_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for name in ("x.doc", "mixed/a.csv", "mixed/b.jsonl", "bad.parquet", "empty.csv"):
        (tmp_path / name).touch()
    with pytest.raises(JobError, match=message):
        open_source(location)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Cut off, bits flipped, or a piece left out."""
    place = draw.randrange(len(data))
    match draw.randrange(3):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        case _:
            return data[:place] + data[place + draw.choice([1, 4, 64]) :]


def files_of_each_kind(folder: Path) -> list[Path]:
    rows = [{"id": f"i{number}", "text": f"text {number} é", "n": number} for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.csv").write_text(
        "id,text,n\n" + "".join('i{id},"{text}",{n}\n'.format(**row) for row in rows)
    )
    with tarfile.open(folder / "t.tar", "w") as tar:
        for row in rows[:4]:
            for end, value in (("text", row["text"]), ("json", json.dumps(row)), ("jpg", "x" * 600)):
                member = tarfile.TarInfo(f"{row['id']}.{end}")
                member.size = len(data := str(value).encode())
                tar.addfile(member, io.BytesIO(data))
    return sorted(folder.iterdir())


def test_damage_is_a_failed_item_or_ends_the_job(tmp_path: Path) -> None:
    """Whatever is wrong with a file, nothing but JobError is raised."""
    draw = random.Random(7)
    choice = Choice(text_column="text", id_column="id", columns=("n",))
    for path in files_of_each_kind(tmp_path):
        whole = path.read_bytes()
        for _ in range(100):
            path.write_bytes(damaged(whole, draw))
            with contextlib.suppress(JobError):
                source = open_source(str(path), choice)
                for row in source.rows():
                    assert isinstance(read(row.content), str | Problem)
                source.total()


def test_a_column_whose_name_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["one"], "other": [1]}), path)
    path.write_bytes(path.read_bytes().replace(b"other", b"\xffther"))
    with pytest.raises(JobError, match=r"t\.parquet is no Parquet file: 'utf-8' codec can't decode"):
        open_source(str(path))


def test_columns_of_a_source_without_any(photos: Path) -> None:
    with pytest.raises(
        JobError, match=r"--columns size is given, and the folder of images .* has no columns"
    ):
        open_source(str(photos), Choice(columns=("size",)))
    with pytest.raises(JobError, match="a name that the result needs"):
        Choice(columns=("vector",))


def test_a_large_table_is_not_read_at_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"png": [os.urandom(10_000)] * 4000}), tmp_path / "t.parquet", row_group_size=400)
    before = pa.total_allocated_bytes()
    rows = open_source(f"{tmp_path}/t.parquet").rows()
    assert all(isinstance(next(rows).content, Encoded) for _ in range(1000))
    assert pa.total_allocated_bytes() - before < 20_000_000


def test_a_folder_that_cannot_be_read_is_one_item(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(folder: str) -> Any:
        if folder.endswith("z/deep/"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    found = contents(open_source(str(photos)))
    assert found["z/deep/"].reason == "FOLDER_NOT_READ" and found["z/c.webp"] == b"z/c.webp"
    with pytest.raises(JobError, match=r"cannot read the folder .*/z/deep/"):
        open_source(f"{photos}/**/*.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", [".csv", ".jsonl", "-"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str, end: str) -> None:
    rows = {".csv": "text,id\na cat,1\n", ".jsonl": '{"text": "a cat"}\n', "-": "a cat\na dog\n"}
    (path := tmp_path / f"t{end}").write_bytes(rows[end].encode(encoding))
    named = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    with (
        pytest.raises(JobError, match=rf"looks like {named}, .*iconv -f {named} -t UTF-8"),
        path.open("rb") as file,
    ):
        list(open_source("-" if end == "-" else str(path), stdin=file).rows())


def test_utf8_is_no_other_encoding(tmp_path: Path) -> None:
    (path := tmp_path / "t.csv").write_text("text\n" + "\u0416\u4e16 \u00e9\n" * 500, encoding="utf-8-sig")
    assert len(list(open_source(str(path)).rows())) == 500


def test_fields_of_a_tar_are_never_cut(tmp_path: Path) -> None:
    long = b"x" * (tars.MAX_FIELD_BYTES + 1)
    about = json.dumps({"caption": "c", "rest": long.decode()}).encode()
    members = {"1.jpg": b"1", "1.txt": b"t", "2.jpg": b"2", "2.txt": long, "3.jpg": b"3", "3.json": about}
    shard = str(tar(tmp_path / "s.tar", members))
    assert contents(open_source(shard)) == {"s.tar/1": b"1", "s.tar/2": b"2", "s.tar/3": b"3"}
    found = contents(open_source(shard, Choice(columns=("txt",))))
    limit = f"'txt' has {len(long)} bytes, more than the limit, {tars.MAX_FIELD_BYTES}"
    assert found["s.tar/2"] == Problem("FIELD_TOO_LONG", limit)
    assert found["s.tar/1"] == b"1"
    assert found["s.tar/3"].reason == "FIELD_TOO_LONG" and "'json' has" in found["s.tar/3"].message
    assert contents(open_source(shard, Choice(text_column="txt")))["s.tar/2"].reason == "FIELD_TOO_LONG"


def test_a_result_is_not_read_as_a_source(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\na cat\n")
    with pytest.raises(JobError, match=r"--out .*/vectors is in .*, whose files are read"):
        open_source(str(tmp_path), out=tmp_path / "vectors")
    with pytest.raises(JobError, match=r"t.csv names .*t.csv, which --out .*t.csv writes"):
        open_source(str(tmp_path / "t.csv"), out=tmp_path / "t.csv")
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "part.csv").write_text("text\na cat\n")
    with pytest.raises(JobError, match=r"names .*part.csv, which --out .*vectors writes"):
        open_source(f"{tmp_path}/**/*.csv", out=tmp_path / "vectors")
    open_source(f"{tmp_path}/*.csv", out=tmp_path / "vectors")
