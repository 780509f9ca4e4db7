"""A worker as a process: how it starts, stops and breaks."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from broker import EmbeddedServer
from tests.support.slow_model import slow_worker
from tests.workers.queue_end import (
    assert_right,
    embed,
    gateway_end,
    leases_in,
    left_in,
    text_rows,
    until,
    workers_alive,
)

ROOT = Path(__file__).parents[2]


async def ended(process: "subprocess.Popen[bytes]", timeout_s: float = 20.0) -> int:
    await until(lambda: process.poll() is not None, timeout_s)
    assert process.returncode is not None
    return process.returncode


@pytest.mark.fault(6)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
async def test_a_signal_under_load_loses_nothing(
    valkey: EmbeddedServer, checkpoint: Path, number: signal.Signals
) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with (
            slow_worker("text", checkpoint, valkey.url, batch_s=0.02) as first,
            slow_worker("text", checkpoint, valkey.url, batch_s=0.02),
        ):
            await workers_alive(gateway, 2)
            requests = [text_rows(4, seed=i) for i in range(60)]
            answers = [asyncio.create_task(embed(gateway, rows)) for rows in requests]
            await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert not all(answer.done() for answer in answers)
            first.send_signal(number)
            assert await ended(first) == 0
            assert len(leases_in(valkey.url)) == 1
            for answer, rows in zip(await asyncio.gather(*answers), requests, strict=True):
                assert_right(answer, rows)
            await workers_alive(gateway, 1)
    assert left_in(valkey.url) == {}


@pytest.mark.fault(6)
async def test_a_second_signal_is_quick_and_others_get_the_work(
    valkey: EmbeddedServer, checkpoint: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with (
            log.open("wb") as stderr,
            slow_worker("text", checkpoint, valkey.url, batch_s=60, drain_timeout_s=60, log=stderr) as stuck,
        ):
            await workers_alive(gateway, 1)
            answer = asyncio.create_task(embed(gateway, text_rows(2)))
            await until(lambda: _held(valkey) == 1)
            stuck.terminate()
            await until(lambda: "finishing what is held" in log.read_text())
            assert stuck.poll() is None
            stuck.terminate()
            assert await ended(stuck, 5) == 0
            assert leases_in(valkey.url) == []
        with slow_worker("text", checkpoint, valkey.url):
            assert_right(await answer, text_rows(2))


@pytest.mark.fault(6)
@pytest.mark.slow
async def test_draining_ends_when_its_time_is_up(valkey: EmbeddedServer, checkpoint: Path) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with slow_worker("text", checkpoint, valkey.url, batch_s=60, drain_timeout_s=0.2) as stuck:
            await workers_alive(gateway, 1)
            answer = asyncio.create_task(embed(gateway, text_rows(2)))
            await until(lambda: _held(valkey) == 1)
            stuck.terminate()
            assert await ended(stuck, 5) == 0
            assert leases_in(valkey.url) == []
        with slow_worker("text", checkpoint, valkey.url):
            assert_right(await answer, text_rows(2))


@pytest.mark.parametrize("to_nan", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_a_device_that_breaks_ends_the_process_and_others_get_the_work(
    valkey: EmbeddedServer, checkpoint: Path, to_nan: bool
) -> None:
    async with gateway_end(valkey.url, checkpoint) as gateway:
        with slow_worker(
            "text", checkpoint, valkey.url, breaks_after_rows=2, breaks_to_nan=to_nan
        ) as breaking:
            await workers_alive(gateway, 1)
            assert_right(await embed(gateway, text_rows(2)), text_rows(2))
            answer = asyncio.create_task(embed(gateway, text_rows(3, seed=1)))
            assert await ended(breaking) == 1
        with slow_worker("text", checkpoint, valkey.url):
            assert_right(await answer, text_rows(3, seed=1))


async def test_a_worker_that_comes_before_redis_waits_for_it(
    valkey: EmbeddedServer, checkpoint: Path, tmp_path: Path
) -> None:
    socket, log = tmp_path / "later.sock", tmp_path / "log"
    with log.open("wb") as stderr, slow_worker("text", checkpoint, f"unix://{socket}", log=stderr):
        await until(lambda: "waiting for its return" in log.read_text())
        socket.symlink_to(valkey.url.removeprefix("unix://"))
        async with gateway_end(valkey.url, checkpoint) as gateway:
            await workers_alive(gateway, 1)
            assert_right(await embed(gateway, text_rows(2)), text_rows(2))


def test_an_unusable_url_is_one_line_and_status_2(checkpoint: Path) -> None:
    result = real_worker(checkpoint, "http://127.0.0.1:6379")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "http://127.0.0.1:6379" in result.stderr


def test_a_wrong_password_ends_with_one_line_and_status_2(valkey: EmbeddedServer, checkpoint: Path) -> None:
    with redis.Redis.from_url(valkey.url) as admin:
        admin.acl_setuser("worker", enabled=True, passwords=["+right"], keys=["*"], commands=["+@all"])
    result = real_worker(checkpoint, valkey.url.replace("unix://", "unix://worker:wrong@"))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "invalid username-password pair" in result.stderr.splitlines()[-1]
    assert "wrong@" not in result.stderr


def real_worker(checkpoint: Path, url: str) -> "subprocess.CompletedProcess[str]":
    settings = ["--tower", "text", "--model", str(checkpoint), "--redis-url", url, "--max-batch-rows", "2"]
    command = [sys.executable, "-m", "siglip_cli", "worker", *settings]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def _held(valkey: EmbeddedServer) -> int:
    return sum(held for _, held in left_in(valkey.url).values())
