"""Clocks of hosts that are wrong, and clocks that jump, under load: deadlines mean what they say."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker import EmbeddedServer
from tests.faults.fleet import CHECKPOINT, running
from tests.faults.load import load, right_answers
from tests.support.clocks import LIBRARY, NO_LIBRARY, half_each_way, jump, set_by
from tests.support.valkey import wait_until

pytestmark = [
    pytest.mark.fault(14),
    pytest.mark.slow,
    pytest.mark.skipif(LIBRARY is None, reason=NO_LIBRARY),
]


def answers_all(
    queue: EmbeddedServer,
    folder: Path,
    environ_of: Callable[[str], dict[str, str]],
    during: Callable[[], None],
) -> None:
    with running(queue, folder, environ_of=environ_of) as fleet:
        with load(fleet.address, right_answers(CHECKPOINT), callers=3, seed=14, hopeless=0) as book:
            wait_until(lambda: book.right > 50)
            during()
            before = book.right
            wait_until(lambda: book.right > before + 50)
        assert (book.bad, book.errors) == (0, {}), book
        wait_until(lambda: fleet.left_overs() == {})


def test_hosts_whose_clocks_are_wrong(own_server: EmbeddedServer, tmp_path: Path) -> None:
    answers_all(own_server, tmp_path, half_each_way, lambda: None)


def test_clocks_that_jump(own_server: EmbeddedServer, tmp_path: Path) -> None:
    file = tmp_path / "clock"
    jump(file, 0)

    def leap() -> None:
        for seconds in (600, -600, 0):
            jump(file, seconds)
            time.sleep(1)

    answers_all(own_server, tmp_path, lambda name: set_by(file), leap)
