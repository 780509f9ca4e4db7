"""Near-duplicates against connected components found one pair at a time."""

from pathlib import Path

import numpy as np
import pytest

from siglip_search import EmbeddedFolder, SearchError, duplicates, folder, near_duplicates
from tests.search.folders import random_vectors, write_folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BLOCK_BYTES", 4 * 4 * 47)
    monkeypatch.setattr(duplicates, "TILE_ROWS", 13)


def components(vectors: np.ndarray, threshold: float) -> set[frozenset[int]]:
    """By walking from row to row."""
    near = vectors.astype(np.float64) @ vectors.T.astype(np.float64) >= threshold
    left, found = set(range(len(vectors))), set()
    while left:
        reached, wave = set(), {left.pop()}
        while wave:
            reached |= wave
            wave = {int(n) for row in wave for n in np.flatnonzero(near[row])} - reached
        left -= reached
        if len(reached) > 1:
            found.add(frozenset(reached))
    return found


@pytest.mark.parametrize("threshold", [0.9, 0.97, 0.995])
@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_groups_are_the_connected_components(tmp_path: Path, format: str, threshold: float) -> None:
    vectors = random_vectors(400, dim=4)
    found = near_duplicates(EmbeddedFolder(write_folder(tmp_path, vectors, format=format)), threshold)
    expected = components(vectors, threshold)
    assert len(expected) > 3 or threshold < 0.95
    assert {frozenset(member.number for member in group.members) for group in found.groups} == expected
    assert len(found.groups) == len(expected)
    assert [len(group.members) for group in found.groups] == sorted(map(len, expected), reverse=True)
    cosines = vectors.astype(np.float64) @ vectors.T
    np.fill_diagonal(cosines, -1)
    for group in found.groups:
        numbers = [member.number for member in group.members]
        assert numbers == sorted(numbers)
        assert [member.id for member in group.members] == [f"{number:05}.png" for number in numbers]
        nearest = cosines[numbers].max(axis=1)
        np.testing.assert_allclose([member.cosine for member in group.members], nearest, atol=1e-6)


def test_equal_rows_are_a_group_whatever_the_rounding(tmp_path: Path) -> None:
    vectors = np.tile(random_vectors(100, dim=4), (3, 1))
    groups = near_duplicates(EmbeddedFolder(write_folder(tmp_path, vectors)), 1.0).groups
    found = {tuple(member.number for member in group.members) for group in groups}
    assert found == {(number, number + 100, number + 200) for number in range(100)}


def test_a_chain_is_one_group(tmp_path: Path) -> None:
    """Its ends are far apart, and met in an order that joins it late."""
    angles = np.random.default_rng(0).permutation(np.linspace(0, 2, 200))
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1).astype(np.float32)
    [group] = near_duplicates(EmbeddedFolder(write_folder(tmp_path, vectors)), np.cos(0.0102)).groups
    assert len(group.members) == 200


def test_failed_rows_are_in_no_group(tmp_path: Path) -> None:
    vectors = np.tile(random_vectors(1, dim=4), (10, 1))
    vectors[[2, 5]] = np.nan
    found = near_duplicates(EmbeddedFolder(write_folder(tmp_path, vectors)), 0.9)
    assert [member.number for member in found.groups[0].members] == [0, 1, 3, 4, 6, 7, 8, 9]
    assert (found.rows, found.failed) == (10, 2)


def test_no_two_alike(tmp_path: Path) -> None:
    assert (
        near_duplicates(EmbeddedFolder(write_folder(tmp_path, np.eye(4, dtype=np.float32))), 0.5).groups == []
    )


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan")])
def test_a_threshold_that_is_none(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(SearchError, match=f"threshold is {threshold}; it must be above 0"):
        near_duplicates(EmbeddedFolder(write_folder(tmp_path, random_vectors(4))), threshold)
