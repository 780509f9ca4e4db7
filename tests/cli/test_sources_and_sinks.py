"""`siglip classify` and `siglip score` over archives and tables, into files."""

import csv
import io
import json
import resource
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siglip_cli.errors import CommandError
from siglip_cli.images import Reading, Unreadable, find, read
from siglip_cli.main import run
from siglip_cli.result_file import result_file
from siglip_jobs.choice import Choice
from siglip_jobs.errors import JobError
from tests.cli.service import Service, clean_environ, siglip

LABELS = ("--label", "a cat", "--label", "a dog")
COLUMNS = {"image": str, "label": str, "index": int, "probability": float, "error": str}


@pytest.fixture
def images(tmp_path: Path, png: bytes) -> dict[str, bytes]:
    return {"a": png, "b": b"not a picture", "c": png}


@pytest.fixture(params=["tar", "parquet", "parquet of paths", "csv", "jsonl", "folder of tables"])
def source(request: pytest.FixtureRequest, tmp_path: Path, images: dict[str, bytes]) -> Path:
    """The same three images, whose ids end in a, b and c."""
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    folder = tmp_path / "tables"
    folder.mkdir()
    match request.param:
        case "tar":
            with tarfile.open(path := folder / "shard.tar", "w") as tar:
                for name, data in images.items():
                    member = tarfile.TarInfo(f"{name}.png")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        case "parquet of paths":
            paths = [str(tmp_path / name) for name in images]
            pq.write_table(pa.table({"id": list(images), "path": paths}), path := folder / "paths.parquet")
        case "csv":
            rows = "".join(f"{name},{tmp_path / name}\n" for name in images)
            (path := folder / "paths.csv").write_text(f"id,path\n{rows}")
        case "jsonl":
            lines = [json.dumps({"id": name, "path": str(tmp_path / name)}) + "\n" for name in images]
            (path := folder / "paths.jsonl").write_text("".join(lines))
        case _:
            table = pa.table({"id": list(images), "image": list(images.values())})
            pq.write_table(table, path := folder / "images.parquet")
            path = folder if request.param == "folder of tables" else path
    return path


def test_what_a_source_holds(source: Path, images: dict[str, bytes]) -> None:
    found = list(find([str(source)]))
    assert [item.name.rpartition("/")[2] for item in found] == list(images)
    assert [read(item, 1000) for item in found] == list(images.values())
    with pytest.raises(Unreadable, match="limit, 5"):
        read(found[0], 5)


@pytest.fixture
def table(tmp_path: Path, images: dict[str, bytes]) -> Path:
    columns = {"id": list(images), "image": list(images.values())}
    pq.write_table(pa.table(columns), path := tmp_path / "images.parquet")
    return path


def test_classified_into_files(service: Service, table: Path, tmp_path: Path) -> None:
    call = ("classify", table, *LABELS, "--address", service.address)
    lines = [json.loads(line) for line in siglip(*call, "--json").stdout.splitlines()]
    assert [len(line["labels"]) for line in lines] == [2, 0, 2]
    for end in (".jsonl", ".csv", ".parquet"):
        done = siglip(*call, "--out", tmp_path / f"found{end}")
        assert (done.returncode, done.stdout) == (1, "")
        [told] = done.stderr.splitlines()
        assert "IMAGE_UNREADABLE" in told
        assert rows_of(tmp_path / f"found{end}") == [
            {"image": line["image"], **label, "error": None}
            if label
            else {"image": "b", "error": f"IMAGE_UNREADABLE: {line['error']['message']}"}
            for line in lines
            for label in line["labels"] or [None]
        ]
    assert sorted(path.name for path in tmp_path.glob("found*")) == [
        "found.csv",
        "found.jsonl",
        "found.parquet",
    ]


def rows_of(path: Path) -> list[dict[str, object]]:
    """Without the fields that hold nothing, but for the error."""
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        failed = [{"image": line["image"], "error": text(line["error"])} for line in lines if line["error"]]
        good = [
            {"image": line["image"], **label, "error": None} for line in lines for label in line["labels"]
        ]
        return [*good[:2], *failed, *good[2:]]
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        kinds = {"index": int, "probability": float, "logit": float, "cosine": float}
        with path.open(newline="") as file:
            rows = [
                {name: kinds.get(name, str)(value) if value else None for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    return [
        {name: value for name, value in row.items() if name == "error" or value is not None} for row in rows
    ]


def text(error: dict[str, str]) -> str:
    return f"{error['reason']}: {error['message']}"


def test_scored_into_a_file(service: Service, table: Path, tmp_path: Path) -> None:
    arguments = ("score", table, "--text", "a cat", "--text", "a dog", "--address", service.address)
    done = siglip(*arguments, "--out", tmp_path / "scores.parquet")
    assert done.returncode == 1
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [(row["image"], row["text"]) for row in rows] == [
        ("a", "a cat"),
        ("a", "a dog"),
        ("b", None),
        ("c", "a cat"),
        ("c", "a dog"),
    ]
    assert rows[:2] == [row | {"image": "a"} for row in rows[3:]]
    assert 0 < rows[0]["probability"] < 1


def test_paths_from_standard_input(service: Service, tmp_path: Path, png: bytes) -> None:
    for name in ("a.png", "b c.png"):
        (tmp_path / name).write_bytes(png)
    done = siglip(
        *("classify", "-", "--paths", *LABELS, "--json"),
        stdin=b"a.png\nb c.png\ngone.png\n",
        environ=clean_environ(SIGLIP_ADDRESS=service.address),
        cwd=tmp_path,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == ["a.png", "b c.png", "gone.png"]
    assert [line["error"] and line["error"]["reason"] for line in lines] == [None, None, "IMAGE_NOT_READ"]


def test_images_are_found_as_they_are_asked_for(tmp_path: Path) -> None:
    """A table of any size is never held."""
    table = pa.table({"id": [str(n) for n in range(1000)], "image": [b"x" * 1000] * 1000})
    with pq.ParquetWriter(tmp_path / "many.parquet", table.schema) as writer:
        for _ in range(20):
            writer.write_table(table)
    before = pa.total_allocated_bytes()
    sources = find([str(tmp_path / "many.parquet")])
    assert [next(sources).name for _ in range(3)] == ["0", "1", "2"]
    assert pa.total_allocated_bytes() - before < 4_000_000


def test_a_table_of_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("id,caption\n1,a cat\n")
    [source] = find([str(tmp_path / "texts.csv")])
    with pytest.raises(CommandError, match="holds texts, not images: give --image-column or --path-column"):
        read(source, 100)
    with pytest.raises(JobError, match="no column 'jpg'"):
        list(find([str(tmp_path / "texts.csv")], Reading(Choice(image_column="jpg"))))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "found.txt"], "--out is found.txt; its name must end with one of .jsonl .csv .parquet"),
        (["--out", "gone/found.csv"], "there is no folder gone"),
        (["--out", "found.csv", "--json"], "--json or --out, not both"),
        (["--image-column", "a", "--path-column", "b"], "one of --path-column, --image-column"),
    ],
)
def test_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["classify", "a.png", "--label", "x", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".parquet"])
def test_a_file_is_whole_or_stays_as_it_was(tmp_path: Path, end: str) -> None:
    out = tmp_path / f"found{end}"
    out.write_text("before")
    with pytest.raises(ZeroDivisionError), result_file(out, False, COLUMNS) as sink:
        assert sink
        sink.write(image="a", labels=[], error=None)
        raise ZeroDivisionError
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".parquet"])
def test_stray_bytes_and_lines_in_names(tmp_path: Path, end: str) -> None:
    out = tmp_path / f"found{end}"
    with result_file(out, False, COLUMNS) as sink:
        assert sink
        label = {"label": "x\ny", "index": 0, "probability": 0.5}
        sink.write(image='caf\udce9 ",\n', labels=[label], error=None)
    name = 'caf\ufffd ",\n'
    match end:
        case ".jsonl":
            assert json.loads(out.read_text("utf-8"))["image"] == name
        case ".csv":
            with out.open(encoding="utf-8", newline="") as file:
                [row] = csv.DictReader(file)
            assert (row["image"], row["label"]) == (name, "x\ny")
        case _:
            assert pq.read_table(out)["image"].to_pylist() == [name]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(tmp_path: Path, begin: str) -> None:
    name = f"{begin}HYPERLINK(1)"
    for end in (".csv", ".jsonl"):
        with result_file(tmp_path / f"found{end}", False, COLUMNS) as sink:
            assert sink
            sink.write(image=name, labels=[{"label": "a-b", "probability": -0.5}], error=None)
    with (tmp_path / "found.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["image"], row["label"], row["probability"]) == (f"'{name}", "a-b", "-0.5")
    assert json.loads((tmp_path / "found.jsonl").read_text())["image"] == name


def test_its_own_result_is_not_read(tmp_path: Path, table: Path) -> None:
    with pytest.raises(JobError, match=r"--out .*found\.csv is in .*, whose files are read"):
        list(find([str(tmp_path)], Reading(out=tmp_path / "found.csv")))
    with pytest.raises(JobError, match=r"which --out .*images\.parquet writes"):
        list(find([str(table)], Reading(out=table)))


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".parquet"])
def test_a_file_that_finds_no_room_says_so(tmp_path: Path, end: str) -> None:
    """What happens last, as it is closed, does not hide why."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large"),
            result_file(tmp_path / f"found{end}", False, COLUMNS) as sink,
        ):
            assert sink
            for number in range(10_000):
                sink.write(image=f"{number * 7919 % 104729}", labels=[], error=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
