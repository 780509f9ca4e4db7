"""What the exports write, against `siglip search`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siglip_search import EmbeddedFolder, search
from tests.search.folders import random_vectors, write_folder

ROOT = Path(__file__).parents[2]
IDS = ["plain.png", "tab\tand\nline.png", "back\\slash.png", "ünï 'quoted\".png", "failed.png", "\\."]
ESCAPED = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    vectors = random_vectors(len(IDS)) * 2
    vectors[IDS.index("failed.png")] = np.nan
    return write_folder(tmp_path / "vectors", vectors, ids=IDS)


def unescaped(text: str) -> str:
    """As COPY reads a column."""
    read, rest = "", text
    while rest:
        taken = 2 if rest[0] == "\\" else 1
        read, rest = read + ESCAPED.get(rest[:taken], rest[:taken]), rest[taken:]
    return read


def test_sql_for_psql(place: Path) -> None:
    command = [sys.executable, "-m", "examples.export_to_pgvector", str(place), "--table", 'my "pictures"']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    head, _, rest = done.stdout.partition("FROM STDIN;\n")
    assert head.splitlines()[-2:] == [
        'CREATE TABLE IF NOT EXISTS "my ""pictures""" (id text PRIMARY KEY, embedding vector(16));',
        'COPY "my ""pictures""" (id, embedding) ',
    ]
    rows, _, end = rest.partition("\n\\.\n")
    assert end == "COMMIT;\n"
    columns = [line.split("\t") for line in rows.split("\n")]
    assert [unescaped(name) for name, _ in columns] == [name for name in IDS if name != "failed.png"]
    vectors = np.array([[float(number) for number in vector[1:-1].split(",")] for _, vector in columns])
    stored = EmbeddedFolder(place).find(IDS[:4] + IDS[5:])
    np.testing.assert_allclose(vectors, EmbeddedFolder(place).vectors(stored), rtol=1e-6)


@pytest.mark.parametrize("module", ["export_to_pgvector", "export_to_faiss"])
def test_no_embedded_folder(tmp_path: Path, module: str) -> None:
    if module == "export_to_faiss":
        pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    command = [sys.executable, "-m", f"examples.{module}", str(tmp_path), str(tmp_path / "x")]
    done = subprocess.run(
        command[: 4 + (module == "export_to_faiss")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("export failed: ") and "no manifest.json" in line


def test_faiss_finds_what_search_finds(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    from examples import export_to_faiss

    vectors = random_vectors(500) * 3
    vectors[17] = np.nan
    place = write_folder(tmp_path / "vectors", vectors)
    assert export_to_faiss.export(place, tmp_path / "index") == 499
    queries = random_vectors(4, seed=1)
    found = export_to_faiss.nearest(tmp_path / "index", queries, 10)
    expected = search(EmbeddedFolder(place), queries, 10).hits
    for row, hits in zip(found, expected, strict=True):
        assert [name for name, _ in row] == [hit.id for hit in hits]
        np.testing.assert_allclose([cosine for _, cosine in row], [hit.cosine for hit in hits], atol=1e-6)
