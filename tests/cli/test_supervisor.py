import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker import EmbeddedServer
from siglip_cli import exit_codes
from siglip_cli.child import Child, ConfigurationFailed, Program
from siglip_cli.lifeline import lifeline
from siglip_cli.queue_keeper import QueueKeeper
from siglip_cli.stop_signals import StopSignals
from siglip_cli.supervisor import NotReady, keep_alive, stop_in_order
from tests.cli.processes import alive, killed_afterwards, wait_for
from tests.support.valkey import kill_server

# Writes its pid to a file of its own, says when it was told to stop, and then obeys or not.
PROGRAM = """
import os, pathlib, signal, sys, time
folder, name, obeys = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "obeys"
def stop(number, frame):
    with open(folder / "stops", "a") as file:
        file.write(name + "\\n")
    if obeys:
        time.sleep(0.1)
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / f"{name}.{os.getpid()}").touch()
while True:
    time.sleep(1)
"""


class Programs:
    """Children in one folder, and what they left there."""

    def __init__(self, folder: Path, stdin: int) -> None:
        self.folder = folder
        self.stdin = stdin
        self.children: list[Child] = []

    def child(self, name: str, manner: str = "obeys") -> Child:
        return self.run(name, PROGRAM, str(self.folder), name, manner)

    def run(self, name: str, code: str, *arguments: str) -> Child:
        command = [sys.executable, "-c", code, *arguments]
        self.children.append(Child(Program(name, command, dict(os.environ)), self.stdin))
        return self.children[-1]

    def pids(self, name: str) -> set[int]:
        return {int(path.suffix[1:]) for path in self.folder.glob(f"{name}.*")}

    def stops(self) -> list[str]:
        path = self.folder / "stops"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with lifeline() as stdin:
        programs = Programs(tmp_path, stdin)
        yield programs
    for child in programs.children:
        child.kill()


def keep(children: list[Child], is_ready: Callable[[], bool], *, start_timeout_s: float = 20) -> None:
    """Runs the children until they are ready, then asks for a stop."""
    with StopSignals() as signals:
        keep_alive(
            children,
            signals,
            is_ready=is_ready,
            announce=lambda: os.kill(os.getpid(), signal.SIGTERM),
            start_timeout_s=start_timeout_s,
        )


def test_killed_child_is_started_again(programs: Programs) -> None:
    child, other = programs.child("worker"), programs.child("other")

    def killed_twice() -> bool:
        pids = programs.pids("worker")
        if len(pids) < 3 and child.pid in pids and child.running:
            os.kill(child.pid, signal.SIGKILL)
        return len(pids) == 3 and child.pid in pids and programs.pids("other") == {other.pid}

    keep([child, other], killed_twice)
    assert child.running
    assert other.running


def test_pauses_grow_and_are_bounded(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    child = programs.run("worker", "raise SystemExit(1)")
    pauses = []
    for _ in range(10):
        child.start()
        while child.due_at is None:
            child.tend()
        pauses.append(child.due_at - now)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    child.start()
    now += 60.0
    while child.due_at is None:
        child.tend()
    assert child.due_at - now == 0.25, "a child that lived long is forgiven"


@pytest.mark.parametrize("code", [exit_codes.USAGE, exit_codes.DEFECT])
def test_what_fails_for_good_at_its_start_is_not_tried_again(programs: Programs, code: int) -> None:
    program = "import pathlib, sys, os; pathlib.Path(sys.argv[1], f'bad.{os.getpid()}').touch()"
    child = programs.run("bad", f"{program}; sys.exit({code})", str(programs.folder))
    with pytest.raises(ConfigurationFailed, match="bad") as failed:
        keep([child], lambda: False)
    assert failed.value.exit_code == code
    assert len(programs.pids("bad")) == 1


def test_not_ready_in_time(programs: Programs) -> None:
    with pytest.raises(NotReady, match=r"0\.3 s"):
        keep([programs.child("slow")], lambda: False, start_timeout_s=0.3)


def started(programs: Programs, *children: Child) -> None:
    for child in children:
        child.start()
    wait_for(lambda: all(child.pid in programs.pids(child.name) for child in children))


def test_groups_stop_in_order(programs: Programs) -> None:
    gateway, text, vision = (programs.child(name) for name in ("gateway", "text", "vision"))
    started(programs, gateway, text, vision)
    with StopSignals() as signals:
        assert stop_in_order([[gateway], [text, vision]], signals, timeout_s=20)
    assert programs.stops()[0] == "gateway"
    assert sorted(programs.stops()) == ["gateway", "text", "vision"]


def test_ctrl_c_in_the_terminal_does_not_reach_children(programs: Programs) -> None:
    child = programs.child("gateway")
    started(programs, child)
    assert child.pid
    assert os.getpgid(child.pid) != os.getpgid(0), "the terminal signals the whole foreground group"
    assert os.getsid(child.pid) != os.getsid(0)


def test_child_waits_until_it_may_start(programs: Programs) -> None:
    allowed = False
    child = programs.child("worker")
    child._after = lambda: allowed
    child.tend()
    assert child.pid is None
    allowed = True
    child.tend()
    assert child.running


def test_child_that_does_not_stop_is_killed(programs: Programs) -> None:
    stubborn, tame = programs.child("stubborn", "refuses"), programs.child("tame")
    started(programs, stubborn, tame)
    with StopSignals() as signals:
        assert not stop_in_order([[stubborn], [tame]], signals, timeout_s=0.3)
    assert not stubborn.running
    assert programs.stops() == ["stubborn", "tame"]


def test_second_signal_does_not_wait(programs: Programs) -> None:
    stubborn = programs.child("stubborn", "refuses")
    started(programs, stubborn)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: signals.count == 1)
        began = time.monotonic()
        signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert not stop_in_order([[stubborn]], signals, timeout_s=100)
    assert time.monotonic() - began < 20
    assert not stubborn.running


def test_signal_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == before


def test_a_queue_that_cannot_be_started_again_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("siglip_cli.queue_keeper.now_s", lambda: now)
    with EmbeddedServer(tmp_path) as server:
        keeper, folder = QueueKeeper(server), server._folder
        keeper.tend()
        kill_server(server)
        folder.touch()  # where its folder was, a file
        keeper.tend()
        assert "cannot be started" in caplog.text and "0.25 s" in caplog.text
        folder.unlink()
        keeper.tend()
        assert not server.alive(), "its time has not come"
        with monkeypatch.context() as broken:
            broken.setattr(server, "_server_command", lambda: [sys.executable, "-c", ""])
            now += 0.25
            keeper.tend()
            assert "ended at its start" in caplog.text and "0.50 s" in caplog.text
        now += 0.5
        keeper.tend()
        assert server.alive()


PARENT = """
import subprocess, sys, time
from siglip_cli.lifeline import lifeline
code = '''
import os, time
from siglip_cli.lifeline import end_with_stdin
end_with_stdin()
os.write(1, f"{os.getpid()}{os.linesep}".encode())  # a whole line, whatever the other child writes
time.sleep(600)
'''
with lifeline() as stdin:
    children = [subprocess.Popen([sys.executable, "-c", code], stdin=stdin) for _ in range(2)]
    time.sleep(600)
"""


def test_children_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = {int(parent.stdout.readline()) for _ in range(2)}
        were_alive = [alive(pid) for pid in pids]
        parent.kill()
    with killed_afterwards(pids):
        assert were_alive == [True, True]
        wait_for(lambda: not any(alive(pid) for pid in pids), timeout_s=10)
