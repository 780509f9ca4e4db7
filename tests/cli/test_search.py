"""`siglip search` and `siglip near-duplicates`, against numpy and a real service."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siglip_cli.main import run
from siglip_cli.pictures import find_pictures
from siglip_client import Client
from siglip_jobs.rows import loaded
from siglip_jobs.sources import open_source
from siglip_search import EmbeddedFolder
from tests.cli.service import Service
from tests.search.folders import random_vectors, write_folder
from tests.support.pictures import encoded, scene

DIM = 32


@pytest.fixture(scope="module")
def embedded(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures; the fourth is no picture, the last two are the same."""
    folder = tmp_path_factory.mktemp("embedded")
    pictures = folder / "pictures" / "deep"
    pictures.mkdir(parents=True)
    data = [encoded(scene(40, 30 + seed, seed), "PNG") for seed in range(11)]
    data = [*data[:3], b"no picture", *data[4:], data[-1]]
    for number, each in enumerate(data):
        (pictures / f"{number}.png").write_bytes(each)
    with Client(service.address) as client:
        found = client.embed_images(data, on_error="return")
    ids = [f"deep/{number}.png" for number in range(12)]
    return write_folder(folder, found.vectors, ids=ids, fingerprint=found.model.fingerprint)


@pytest.fixture
def ask(service: Service, capsys: pytest.CaptureFixture[str]):
    def ask(*words: object, code: int = 0) -> tuple[list[str], str]:
        assert (
            run([*map(str, words), *(["--address", service.address] if words[0] == "search" else [])]) == code
        )
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err

    return ask


def expected(embedded: Path, queries: np.ndarray) -> np.ndarray:
    """Cosines of every picture, [queries, 12]."""
    import pyarrow.parquet as pq

    rows = [
        row
        for path in sorted(embedded.glob("*.parquet"))
        for row in pq.read_table(path)["vector"].to_pylist()
    ]
    vectors = np.array([[np.nan] * DIM if row is None else row for row in rows])
    return queries.astype(np.float64) @ vectors.T


def test_by_texts(service: Service, embedded: Path, ask) -> None:
    lines, said = ask("search", "a cat", "two dogs", "--in", embedded, "--top-k", 4, "--json")
    assert said == "siglip: 1 of 12 rows have no vector and were left out\n"
    hits = [json.loads(line) for line in lines]
    assert [list(hit) for hit in hits] == [["query", "rank", "id", "cosine", "probability"]] * 8
    assert [(hit["query"], hit["rank"]) for hit in hits] == [
        (text, rank) for text in ("a cat", "two dogs") for rank in (1, 2, 3, 4)
    ]
    with Client(service.address) as client:
        served = client.get_model()
        cosines = expected(embedded, client.embed_texts(["a cat", "two dogs"]).vectors)
        data = (embedded / "pictures" / hits[0]["id"]).read_bytes()
        [[probability]] = client.score([data], ["a cat"]).probabilities
    assert hits[0]["probability"] == pytest.approx(float(probability), rel=1e-5)
    for row, found in zip(cosines, (hits[:4], hits[4:]), strict=True):
        best = np.argsort(-np.nan_to_num(row, nan=-2))[:4]
        assert {hit["id"] for hit in found} == {f"deep/{number}.png" for number in best}
        np.testing.assert_allclose([hit["cosine"] for hit in found], row[best], atol=1e-6)
        logits = served.logit_scale * row[best] + served.logit_bias
        np.testing.assert_allclose(
            [hit["probability"] for hit in found], 1 / (1 + np.exp(-logits)), rtol=1e-4
        )
    plain, _ = ask("search", "a cat", "--in", embedded, "--top-k", 1)
    assert plain == [
        "\t".join(["a cat", "1", f"{hits[0]['cosine']:.6f}", f"{hits[0]['probability']:.0e}", hits[0]["id"]])
    ]


def test_by_image_and_by_row(embedded: Path, ask) -> None:
    picture = embedded / "pictures" / "deep" / "5.png"
    lines, _ = ask(
        "search", "--image", picture, "--like", "deep/10.png", "--in", embedded, "--top-k", 2, "--json"
    )
    by_image, _, by_row, _ = map(json.loads, lines)
    assert (by_image["query"], by_image["id"], by_image["probability"]) == (str(picture), "deep/5.png", None)
    assert by_image["cosine"] == pytest.approx(1, abs=1e-6)
    # Not itself, but its twin.
    assert (by_row["query"], by_row["id"]) == ("deep/10.png", "deep/11.png")


def test_by_row_needs_no_service(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--like", "deep/10.png", "--in", str(embedded), "--address", "127.0.0.1:1"]
    assert run([*words, "--top-k", "1"]) == 0
    assert capsys.readouterr().out == "deep/10.png\t1\t1.000000\t\tdeep/11.png\n"
    assert run([*words, "--top-k", "100"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10  # of 12, without itself and the failed one


def test_a_contact_sheet(embedded: Path, tmp_path: Path, ask) -> None:
    """The best picture is in the place of the first tile; what is no picture has a placeholder."""
    from siglip_search import sheet

    for folder in (embedded / "pictures", tmp_path):
        out = tmp_path / "best.png"
        picture = embedded / "pictures" / "deep" / "5.png"
        ask("search", "--image", picture, "--in", embedded, "--contact-sheet", out, "--pictures", folder)
        left, top = sheet.MARGIN + sheet.PADDING, sheet.MARGIN + sheet.TITLE_HEIGHT + sheet.PADDING
        with Image.open(out) as drawn, Image.open(picture) as best:
            tile = drawn.crop((left, top, left + sheet.PICTURE[0], top + sheet.PICTURE[1]))
            away = np.abs(np.asarray(tile, np.int32) - np.asarray(sheet.small(best), np.int32)).mean()
        assert (away < 1) == (folder != tmp_path)


def test_pictures_in_archives(embedded: Path, tmp_path: Path) -> None:
    for shard, numbers in (("a", range(6)), ("b", range(6, 12))):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in numbers:
                tar.add(embedded / "pictures" / "deep" / f"{number}.png", f"{number}.png")
    rows = [row.id for row in open_source(str(tmp_path / "*.tar")).rows()]
    place = write_folder(tmp_path / "vectors", random_vectors(12, DIM), ids=rows)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["source"] = open_source(str(tmp_path / "*.tar")).identity()
    (place / "manifest.json").write_text(json.dumps(manifest))
    found = find_pictures(EmbeddedFolder(place), [rows[8], rows[2], "gone"], None)
    assert {name: loaded(content, 1 << 20) for name, content in found.items()} == {
        rows[number]: (embedded / "pictures" / "deep" / f"{number}.png").read_bytes() for number in (2, 8)
    }


def test_a_folder_of_another_model(embedded: Path, tmp_path: Path, ask) -> None:
    other = write_folder(tmp_path / "other", random_vectors(3, DIM))
    lines, said = ask("search", "a cat", "--in", other, code=2)
    assert lines == []
    assert f"was made by tiny ({'f' * 16}), and 127.0.0.1:" in said
    assert "serves tiny (" in said and "different models cannot be compared" in said
    assert len(said.splitlines()) == 1


def test_near_duplicates(embedded: Path, ask) -> None:
    lines, said = ask("near-duplicates", "--in", embedded, "--threshold", 1, "--json")
    [group] = map(json.loads, lines)
    assert list(group) == ["group", "items"]
    assert [item["id"] for item in group["items"]] == ["deep/10.png", "deep/11.png"]
    assert [item["cosine"] for item in group["items"]] == pytest.approx([1, 1], abs=1e-6)
    assert said == "siglip: 1 of 12 rows have no vector and were left out\n"
    plain, _ = ask("near-duplicates", "--in", embedded, "--threshold", 1)
    assert plain == ["1\t1.000000\tdeep/10.png", "1\t1.000000\tdeep/11.png"]


def test_a_job_that_has_not_ended(tmp_path: Path, ask) -> None:
    place = write_folder(tmp_path / "half", random_vectors(30, DIM), complete=False)
    lines, said = ask("search", "--like", "00003.png", "--in", place, "--top-k", 2)
    assert len(lines) == 2
    assert said == f"siglip: the job of {place} has not ended: 30 rows so far\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search"], "Missing option '--in'"),
        (["search", "--in", "full"], "give a TEXT, an --image or a --like"),
        (["search", "a cat", "--in", "gone"], "there is no folder gone"),
        (["search", "a cat", "--in", "."], "no embedded folder: it has no manifest.json"),
        (["search", "a cat", "--in", "empty"], "empty holds no rows yet"),
        (["search", "a cat", "--in", "full", "--top-k", "0"], "--top-k"),
        (["search", "--like", "nobody", "--in", "full"], "full has no row with the id 'nobody'"),
        (["search", "--like", "00001.png", "--in", "full"], "'00001.png' has no vector in full: it failed"),
        (["search", "a", "--in", "full", "--contact-sheet", "x.jpg"], "must end with .png"),
        (["search", "a", "--in", "full", "--contact-sheet", "no/x.png"], "there is no folder no"),
        (["near-duplicates", "--in", "full", "--threshold", "0"], "--threshold"),
        (["near-duplicates", "--in", "empty"], "empty holds no rows yet"),
    ],
)
def test_what_cannot_be_looked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    vectors = random_vectors(5, DIM)
    vectors[1] = np.nan
    write_folder(tmp_path / "full", vectors)
    write_folder(tmp_path / "empty", vectors[:0], complete=False)
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_query_that_is_no_picture(embedded: Path, tmp_path: Path, ask) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for name, said in (("bad.png", "IMAGE_UNREADABLE"), ("gone.png", "No such file")):
        lines, told = ask("search", "--image", tmp_path / name, "--in", embedded, code=2)
        assert lines == [] and name in told and said in told
