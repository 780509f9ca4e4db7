"""Workers of one machine measure one after the other, whatever becomes of the one whose turn it is."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from workers.turns import turn


def no_more_sleep(_: float) -> None:
    raise AssertionError("waited")


def hold(folder: Path, told: Connection) -> None:
    with turn(folder):
        told.send("mine")
        told.recv()


def test_a_second_worker_waits_until_the_first_has_died(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe()
    first = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, there))
    first.start()
    assert here.recv() == "mine"
    waited: list[float] = []

    def kill_the_first(wait_s: float) -> None:
        waited.append(wait_s)
        first.kill()
        first.join()

    with turn(tmp_path, sleep=kill_the_first) as alone:
        assert alone
        assert waited


def test_a_worker_that_measures_for_ever_does_not_keep_the_others(tmp_path: Path) -> None:
    with turn(tmp_path), turn(tmp_path, longest_wait_s=0.0, sleep=no_more_sleep) as alone:
        assert not alone


def test_a_turn_ends(tmp_path: Path) -> None:
    for _ in range(2):
        with turn(tmp_path, sleep=no_more_sleep) as alone:
            assert alone


def test_without_a_place_for_the_lock_it_measures_all_the_same(tmp_path: Path) -> None:
    with turn(tmp_path / "not there") as alone:
        assert not alone


def test_a_link_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    with turn(tmp_path):
        (lock,) = tmp_path.iterdir()
    lock.rename(tmp_path / "elsewhere")
    lock.symlink_to(tmp_path / "elsewhere")
    with turn(tmp_path) as alone:
        assert not alone
