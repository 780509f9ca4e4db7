"""Every input that fuzzing started from, kept or found keeps its promise."""

import pytest

from fuzz.run import TARGETS, known_inputs, target_module


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str) -> None:
    check = target_module(target).check
    inputs = list(known_inputs(target))
    assert inputs
    for data in inputs:
        check(data)
        check(data[: len(data) // 2])
        check(data + data)
