"""Every part is restarted, one after the other, under load: with a client that retries, no call fails."""

import signal
from pathlib import Path

import pytest

from broker import EmbeddedServer
from siglip_cli.probe import serves
from tests.faults.fleet import CHECKPOINT, START_TIMEOUT_S, Fleet, Part, running
from tests.faults.load import load, right_answers, under_way
from tests.support.valkey import wait_until


@pytest.mark.fault(6)
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_call_fails_while_everything_is_restarted(own_server: EmbeddedServer, tmp_path: Path) -> None:
    answers = right_answers(CHECKPOINT)
    with running(own_server, tmp_path) as fleet:
        with load(fleet.address, answers, callers=4, seed=7, hopeless=0) as book:
            for part in fleet.parts:
                under_way(book)
                restart(fleet, part)
            under_way(book)
            fleet.kill_queue()
            under_way(book)
        assert (book.bad, book.errors) == (0, {}), book
        wait_until(lambda: fleet.left_overs() == {})


def restart(fleet: Fleet, part: Part) -> None:
    """As an orchestrator does: the next one's turn comes when this one serves again."""
    before = fleet.live_workers()
    part.end(signal.SIGTERM)
    assert part.process and part.process.returncode == 0
    part.start()
    if part in fleet.gateways:
        port = fleet.ports[fleet.gateways.index(part)]
        wait_until(lambda: serves(f"127.0.0.1:{port}"), START_TIMEOUT_S)
    else:
        wait_until(lambda: fleet.live_workers() == before, START_TIMEOUT_S)
