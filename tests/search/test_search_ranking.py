"""Exact search against the formula written out in float64."""

from pathlib import Path

import numpy as np
import pytest

from siglip_search import EmbeddedFolder, SearchError, folder, search
from tests.search.folders import random_vectors, write_folder

FORMATS = [(format, dtype) for format in ("parquet", "npy") for dtype in ("f32", "f16")]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows are many blocks."""
    monkeypatch.setattr(folder, "BLOCK_BYTES", 16 * 4 * 37)
    monkeypatch.setattr("siglip_search.ranking.BLOCK_BYTES", 16 * 4 * 37)


def cosines(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    queries, vectors = queries.astype(np.float64), vectors.astype(np.float64)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    return queries @ vectors.T / lengths


@pytest.mark.parametrize("top_k", [1, 23, 200])
@pytest.mark.parametrize(("format", "dtype"), FORMATS)
def test_the_best_rows_are_found(tmp_path: Path, format: str, dtype: str, top_k: int) -> None:
    vectors = random_vectors(1000) * 3  # of any length
    place = write_folder(tmp_path, vectors, format=format, dtype=dtype)
    queries = random_vectors(5, seed=1) * 7
    found = search(EmbeddedFolder(place), queries, top_k)
    expected = cosines(queries, vectors.astype({"f32": np.float32, "f16": np.float16}[dtype]))
    for hits, row in zip(found.hits, expected, strict=True):
        best = np.argsort(-row)[:top_k]
        assert [hit.number for hit in hits] == best.tolist()
        assert [hit.id for hit in hits] == [f"{number:05}.png" for number in best]
        np.testing.assert_allclose([hit.cosine for hit in hits], row[best], atol=1e-6)
    assert (found.rows, found.failed) == (1000, 0)


def test_more_queries_than_a_block_has_rows(tmp_path: Path) -> None:
    vectors = random_vectors(300)
    found = search(EmbeddedFolder(write_folder(tmp_path, vectors)), vectors, top_k=1)
    assert [hits[0].number for hits in found.hits] == list(range(300))


def test_equal_rows_come_in_the_order_of_the_folder(tmp_path: Path) -> None:
    vectors = np.tile(np.eye(16, dtype=np.float32)[:2], (100, 1))  # cosines of exactly 0 and 1
    [hits] = search(EmbeddedFolder(write_folder(tmp_path, vectors)), vectors[:1], top_k=60).hits
    assert [hit.number for hit in hits] == list(range(0, 120, 2))


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_rows_without_a_direction_are_counted_and_never_found(tmp_path: Path, format: str) -> None:
    vectors = random_vectors(50)
    vectors[[3, 40]] = np.nan
    vectors[7] = 0
    vectors[8, 2] = np.inf
    vectors[9, 2] = np.nan
    found = search(EmbeddedFolder(write_folder(tmp_path, vectors, format=format)), vectors[:1], top_k=100)
    assert {hit.number for hit in found.hits[0]} == set(range(50)) - {3, 7, 8, 9, 40}
    assert (found.rows, found.failed) == (50, 5)


def test_fewer_rows_than_asked_for(tmp_path: Path) -> None:
    [hits] = search(EmbeddedFolder(write_folder(tmp_path, random_vectors(4))), random_vectors(1), 10).hits
    assert len(hits) == 4


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        (np.ones((1, 8), np.float32), r"\[1, 8\]; the folder's vectors have 16 numbers"),
        (np.zeros((1, 16), np.float32), "no direction"),
        (np.full((1, 16), np.nan, np.float32), "no direction"),
    ],
)
def test_queries_that_cannot_be_compared(tmp_path: Path, queries: np.ndarray, said: str) -> None:
    with pytest.raises(SearchError, match=said):
        search(EmbeddedFolder(write_folder(tmp_path, random_vectors(4))), queries, 1)


def test_fewer_than_one_row_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="top_k is 0; it must be at least 1"):
        search(EmbeddedFolder(write_folder(tmp_path, random_vectors(4))), random_vectors(1), 0)
