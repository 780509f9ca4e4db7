"""Every input that fuzzing started from, kept or found keeps its promise."""

from pathlib import Path

import pytest

from fuzz.run import HERE, TARGETS, known_inputs, target_module


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str) -> None:
    check = target_module(target).check
    inputs = [*known_inputs(target), *(path.read_bytes() for path in kept(target))]
    assert inputs
    for data in inputs:
        check(data)
        check(data[: len(data) // 2])
        check(data + data)


def kept(target: str) -> list[Path]:
    return sorted((HERE / "corpus" / target).glob("*"))
