"""kill -9 of everything while a job runs: in the end each row is there once, as of an undisturbed run.

JOB_PICTURES=100000 JOB_TIMEOUT_S=7200 make slow ARGS=tests/jobs does it with more of them.
"""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.processes import wait_for
from tests.cli.service import SIGLIP, Service, clean_environ, serving, siglip
from tests.jobs.commands import written_parts
from tests.jobs.outputs import assert_same, files, rows
from tests.support.checkpoints import write_tiny_checkpoint

TIMEOUT_S = int(os.environ.get("JOB_TIMEOUT_S", "900"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT_S)]

PICTURES = int(os.environ.get("JOB_PICTURES", "2000"))
SMALL = ("--rows-per-part", str(max(50, PICTURES // 40)), "--part-every-s", "1")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    model = write_tiny_checkpoint(folder / "tiny")
    with serving("--model", model, "--listen", "127.0.0.1:0", "--run-dir", folder) as service:
        yield service


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In folders of a thousand; one in a hundred is no picture."""
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for number in range(PICTURES):
        path = root / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number % 100 == 99:
            path.write_bytes(b"no picture")
        else:
            Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def whole(service: Service, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    done = siglip("embed", pictures, "--out", out, "--address", service.address, timeout_s=TIMEOUT_S)
    assert done.returncode == 1, done.stderr  # those that are no pictures
    return out


class Run:
    """The command, as often as it takes; no part is ever written again."""

    def __init__(self, service: Service, pictures: Path, out: Path, *options: str) -> None:
        command = [*SIGLIP, "embed", pictures, "--out", out, "--address", service.address, *SMALL, *options]
        self._command = list(map(str, command))
        self.out = out
        self._kept: dict[str, tuple[int, int]] = {}
        self.start()

    def start(self) -> None:
        kept = files(self.out) if self.out.exists() else {}
        assert self._kept.items() <= kept.items()
        self._kept = {
            name: state for name, state in kept.items() if int(name[5:10]) < written_parts(self.out)
        }
        self.process = subprocess.Popen(self._command, env=clean_environ(), stderr=subprocess.PIPE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for_parts(self, more: int) -> None:
        wanted = written_parts(self.out) + more
        wait_for(lambda: written_parts(self.out) >= wanted or self.process.poll() is not None, TIMEOUT_S)

    def end(self) -> tuple[int, str]:
        with self.process:
            _, told = self.process.communicate()
        assert self._kept.items() <= files(self.out).items()
        return self.process.returncode, told.decode()


@pytest.mark.parametrize("decode", ["gateway", "client"])
def test_client_and_every_part_of_the_service_are_killed(
    service: Service, pictures: Path, whole: Path, tmp_path: Path, decode: str
) -> None:
    with closing(Run(service, pictures, tmp_path / "out", "--decode", decode)) as run:
        for victim in (
            "client",
            "--tower vision",
            "client",
            "siglip_cli gateway",
            "valkey-server unixsocket:",
            "client",
        ):
            run.wait_for_parts(3)
            assert run.process.poll() is None, "it ended before all were killed"
            if victim == "client":
                run.kill()
                run.start()
            else:
                os.kill(service.child(victim), signal.SIGKILL)
        code, told = run.end()
    assert code == 1, told
    assert_same(rows(run.out), rows(whole))
    assert len(rows(whole)) == PICTURES


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_instant(
    service: Service, pictures: Path, whole: Path, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    kills = 0
    with closing(
        Run(service, pictures, tmp_path / "out", "--format", draw.choice(["npy", "parquet"]))
    ) as run:
        while kills < 12:
            try:
                run.process.wait(draw.uniform(0.3, 1.5))
                break
            except subprocess.TimeoutExpired:
                run.kill()
                kills += 1
                run.start()
        code, told = run.end()
    assert kills and code == 1, told
    assert_same(rows(run.out), rows(whole))
