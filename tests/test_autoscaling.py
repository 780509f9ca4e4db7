"""The formula by which workers come and go, against what KEDA and Kubernetes document."""

from benchmarks.autoscaling.day import Day, Fleet
from benchmarks.autoscaling.keda import Autoscaler, Rule

RULE = Rule(entries_per_worker=10, max_replicas=8)


def after(entries: list[int], current: int, every_s: float = 15.0) -> list[int]:
    """The replicas after each sync that sees so many entries."""
    scaler, found = Autoscaler(RULE), []
    for number, count in enumerate(entries):
        current = scaler.replicas(number * every_s, count, current)
        found.append(current)
    return found


def test_the_first_entry_wakes_one_worker() -> None:
    assert after([0, 1], 0, every_s=30) == [0, 1]
    assert after([0, 500], 0, every_s=30) == [0, 1]


def test_between_two_looks_nothing_is_woken() -> None:
    assert after([0, 1, 1], 0, every_s=10) == [0, 0, 0]


def test_as_many_as_the_entries_need_rounded_up() -> None:
    assert after([31], 2) == [4]


def test_a_tenth_more_or_less_changes_nothing() -> None:
    assert after([21, 19], 2) == [2, 2]


def test_up_in_steps_and_never_above_the_most() -> None:
    assert after([1000, 1000], 1) == [5, 8]


def test_down_only_to_the_highest_of_the_window() -> None:
    # 300 s are 20 syncs.
    found = after([40, *[10] * 25], 4)
    assert found[20] == 4
    assert found[21] == 1


def test_down_no_faster_than_the_policy() -> None:
    rule = Rule(entries_per_worker=10, max_replicas=8, stabilization_s=0, down_share=0.5, down_period_s=60)
    scaler, current, found = Autoscaler(rule), 8, []
    for now_s in range(0, 181, 15):
        current = scaler.replicas(now_s, 1, current)
        found.append(current)
    assert found == [4, 4, 4, 4, 2, 2, 2, 2, 1, 1, 1, 1, 1]


def test_to_zero_only_after_the_cooldown() -> None:
    found = after([10, *[0] * 22], 1)
    assert found[19] == 1
    assert found[20] == 0


def test_a_simulated_worker_that_goes_finishes_what_it_has() -> None:
    fleet = Fleet()
    fleet.set(2, now_s=-20.0)
    fleet.waiting.extend([0.0] * 20)
    day = Day()
    fleet.run(0.0, day)
    fleet.set(0, now_s=0.0)
    assert (fleet.entries, len(day.waits_s)) == (20, 0)
    fleet.run(0.2, day)
    assert (fleet.entries, len(day.waits_s)) == (4, 16)
