"""Two models at once, and one of them rolled to a new revision, under load: no call fails, none is wrong."""

import signal
from pathlib import Path

import pytest
import redis

from broker import EmbeddedServer
from siglip_cli.probe import serves
from tests.faults.fleet import START_TIMEOUT_S, Fleet, Part
from tests.faults.revisions import Ledger, Revision, asked
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.valkey import wait_until

NAME, OTHER = "shop", "other"
ANSWERS = 30
# One of the two gateways remembers vectors, and shares them.
CACHE = {"SIGLIP_CACHE_BYTES": "1048576", "SIGLIP_SHARED_CACHE_BYTES": "268435456"}


@pytest.mark.fault(6)
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_new_revision_is_rolled_out_beside_another_model(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    old, new, other = (
        Revision.of(write_tiny_checkpoint(tmp_path / name, seed=seed))
        for seed, name in enumerate(("old", "new", "other"))
    )
    fleet = Fleet(old.checkpoint, tmp_path, own_server)
    others = workers_of(fleet, OTHER, other)
    try:
        fleet.start(gateways=2, workers=1, environ_of=lambda part: environ_of(part, old, other))
        retired = [part for part in fleet.workers if part not in others]
        with asked(fleet.address, {NAME: (old, new), OTHER: (other,)}) as ledger:
            goes_on(ledger, old, other)
            fresh = workers_of(fleet, NAME, new)
            for part in fresh:
                part.start()
            wait_until(lambda: fleet.live_workers() == len(fleet.workers), START_TIMEOUT_S)
            goes_on(ledger, old, other)
            assert new.fingerprint not in ledger.answers
            roll(fleet, 0, new, other)
            goes_on(ledger, old, new, other)
            roll(fleet, 1, new, other)
            for part in retired:
                end(part)
            before = ledger.answers[old.fingerprint]
            goes_on(ledger, new, other)
            assert ledger.answers[old.fingerprint] == before
        print({each.checkpoint.name: ledger.answers[each.fingerprint] for each in (old, new, other)})
        assert (ledger.wrong, ledger.failed, ledger.lost) == ([], {}, 0)
        wait_until(lambda: fleet.left_overs() == {})
        fleet.workers[:] = [*others, *fresh]
        fleet.drain()
        forget_shared(fleet)
    finally:
        fleet.stop()


def environ_of(part: str, served: Revision, other: Revision) -> dict[str, str]:
    """Of a gateway, and of those workers that the fleet starts itself."""
    if part.startswith(OTHER):
        return {}
    names = {"SIGLIP_MODEL": str(served.checkpoint), "SIGLIP_MODEL_NAME": NAME}
    if not part.startswith("gateway"):
        return names
    return (
        names | {"SIGLIP_MORE_MODELS": f"{OTHER}={other.checkpoint}"} | (CACHE if part.endswith("0") else {})
    )


def workers_of(fleet: Fleet, name: str, served: Revision) -> list[Part]:
    """One of each tower, not started yet."""
    environ = {
        "SIGLIP_REDIS_URL": fleet.queue.url,
        "SIGLIP_MODEL": str(served.checkpoint),
        "SIGLIP_MODEL_NAME": name,
    }
    arguments = ["worker", "--threads", "1", "--max-batch-rows", "16", "--tower"]
    parts = [
        Part(
            part := f"{name}-{served.checkpoint.name}-{tower}",
            [*arguments, tower],
            environ,
            fleet.folder / f"{part}.log",
        )
        for tower in ("text", "vision")
    ]
    fleet.workers += parts
    return parts


def roll(fleet: Fleet, number: int, served: Revision, other: Revision) -> None:
    """Drains a gateway and starts one of another revision in its place."""
    gateway = fleet.gateways[number]
    end(gateway)
    gateway.environ |= environ_of(gateway.name, served, other)
    gateway.start()
    wait_until(lambda: serves(f"127.0.0.1:{fleet.ports[number]}"), START_TIMEOUT_S)


def end(part: Part) -> None:
    part.end(signal.SIGTERM)
    assert part.process and part.process.returncode == 0


def forget_shared(fleet: Fleet) -> None:
    """Vectors and label sets would expire by themselves."""
    with redis.Redis.from_url(fleet.queue.url) as connection:
        for kind in ("cache", "labels"):
            for key in connection.scan_iter(f"*:{kind}:*"):
                connection.delete(key)


def goes_on(ledger: Ledger, *revisions: Revision) -> None:
    """Each of them answers right now."""
    before = ledger.answers.copy()
    wanted = {each.fingerprint for each in revisions}
    wait_until(lambda: all(ledger.answers[f] > before[f] + ANSWERS for f in wanted), START_TIMEOUT_S)
