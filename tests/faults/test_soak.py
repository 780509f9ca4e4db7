"""Load for SOAK_MINUTES: what the queue and the processes hold at the end is what they held at the start."""

import os
import time
from pathlib import Path

import pytest

from broker import EmbeddedServer
from tests.faults.fleet import CHECKPOINT, Fleet, Part, running
from tests.faults.load import load, right_answers
from tests.support.valkey import looking, wait_until

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.5"))
# Allocators settle; what leaks a little with each call grows by far more.
GROWTH_BYTES = 40 * 1024 * 1024
# Of calls that get 3 ms: they run out of it, or are refused as too late.
HOPELESS = {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@pytest.mark.fault(23)
@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 240)
def test_nothing_grows(own_server: EmbeddedServer, tmp_path: Path) -> None:
    with running(own_server, tmp_path) as fleet:
        keys, server_bytes = held(fleet)
        with load(fleet.address, right_answers(CHECKPOINT), callers=4, seed=23, hopeless=0.02) as book:
            time.sleep(60 * MINUTES / 4)
            before = {part.name: memory_bytes(part) for part in fleet.parts}
            time.sleep(60 * MINUTES * 3 / 4)
            after = {part.name: memory_bytes(part) for part in fleet.parts}
        assert (book.bad, set(book.errors) - HOPELESS) == (0, set()), book
        assert book.right > 100 * MINUTES
        wait_until(lambda: not fleet.left_overs())
        assert held(fleet)[0] == keys
        assert held(fleet)[1] < server_bytes + GROWTH_BYTES
    grown = {name: size - before[name] for name, size in after.items()}
    assert max(grown.values()) < GROWTH_BYTES, grown


def held(fleet: Fleet) -> tuple[int, int]:
    """Keys of the queue, and its memory in bytes."""
    with looking(fleet.queue.url) as connection:
        return int(connection.dbsize()), int(connection.info("memory")["used_memory"])


def memory_bytes(part: Part) -> int:
    """Resident, of one process."""
    assert part.process
    resident_pages = Path(f"/proc/{part.process.pid}/statm").read_text().split()[1]
    return int(resident_pages) * PAGE_BYTES
