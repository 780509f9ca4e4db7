"""The clients in clients/: what each needs, how it is built, and what its program reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "clients"
FILE = "conformance.json"
BUILD_TIMEOUT_S = 1800
# A program waits for a gateway that starts again, on a machine that may be busy.
PLAN_TIMEOUT_S = 300
_SHOWN_CHARACTERS = 2000
# All calls are to this machine: a client that asked a proxy for one would show it its token.
_PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")


Line = dict[str, Any]


class ClientFailed(Exception):
    """A client could not be built, or its program did not end well; with its last words."""


@dataclass(frozen=True)
class Client:
    """`needs`: executables, or files where there is a slash; `packages`: Debian's that bring them.

    `version`: commands that print a line each, for what packages do not tell.
    """

    folder: Path
    language: str
    needs: tuple[str, ...]
    build: tuple[str, ...]
    run: tuple[str, ...]
    packages: tuple[str, ...]
    version: tuple[str, ...] = ()

    def versions(self) -> str:
        """Of what it is built with, as far as this machine has it."""
        if self.missing():
            return ""
        told = [_output(["bash", "-ec", command], self.folder) for command in self.version]
        asked = ["dpkg-query", "-W", "-f", "${Package} ${Version}"]
        installed = [_output([*asked, package], self.folder) for package in self.packages]
        # A package that was asked for once and is not there has a name and no version.
        return ", ".join(each for each in [*told, *installed] if " " in each)

    def missing(self) -> list[str]:
        """What it needs and this machine lacks."""
        return [need for need in self.needs if not self._has(need)]

    def build_it(self) -> None:
        """Raises ClientFailed."""
        for command in self.build:
            shell = ["bash", "-ec", command]
            try:
                done = subprocess.run(
                    shell,
                    cwd=self.folder,
                    env=_environ(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=BUILD_TIMEOUT_S,
                )
            except subprocess.TimeoutExpired as error:
                raise ClientFailed(f"{command}: not done after {BUILD_TIMEOUT_S} s") from error
            if done.returncode:
                raise ClientFailed(f"{command}: {_end_of(done.stdout)}")

    def run_plan(self, plan: Path, hear: Callable[[Line], None]) -> None:
        """`hear` gets every line as it comes. Raises ClientFailed when the program does not end well."""
        with plan.with_suffix(".log").open("w+b") as log:
            try:
                process = subprocess.Popen(
                    [*self.run, str(plan)],
                    cwd=self.folder,
                    env=_environ() | _PROXIES,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            except OSError as error:
                raise ClientFailed(f"{self.run[0]}: {error.strerror}") from error
            clock = threading.Timer(PLAN_TIMEOUT_S, process.kill)
            clock.start()
            try:
                _hear_all(process, hear)
                status = process.wait()
            finally:
                clock.cancel()
                process.kill()
                process.wait()
            if status:
                log.seek(0)
                late = f"was still running after {PLAN_TIMEOUT_S} s, or " if status == -signal.SIGKILL else ""
                raise ClientFailed(f"the program {late}ended with {status}: {_end_of(log.read())}")

    def _has(self, need: str) -> bool:
        if "/" in need:
            return (self.folder / need).exists()
        return shutil.which(need, path=_environ()["PATH"]) is not None


def every_client() -> list[Client]:
    """By language."""
    found = [_client(file) for file in FOLDER.glob(f"*/{FILE}")]
    return sorted(found, key=lambda client: client.language)


def packages() -> list[str]:
    """Debian packages of the clients that cannot be built yet.

    Not of the others: what they need may be here from elsewhere, and conflict with Debian's.
    """
    wanting = [client for client in every_client() if client.missing()]
    return sorted({package for client in wanting for package in client.packages})


def _client(file: Path) -> Client:
    about = json.loads(file.read_text(encoding="utf-8"))
    lists = {name: tuple(about[name]) for name in ("needs", "build", "run", "packages")}
    version = tuple(about.get("version", ()))
    return Client(folder=file.parent, language=about["language"], version=version, **lists)


def _output(command: list[str], folder: Path) -> str:
    """Empty where the command fails or is not there."""
    try:
        done = subprocess.run(command, cwd=folder, env=_environ(), capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _hear_all(process: "subprocess.Popen[bytes]", hear: Callable[[Line], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for text in process.stdout:
            try:
                line = json.loads(text)
            except ValueError:
                raise ClientFailed(f"the program wrote a line that is no JSON: {text[:200]!r}") from None
            hear(line)


def _end_of(output: bytes) -> str:
    return output.decode(errors="replace").strip()[-_SHOWN_CHARACTERS:]


def _environ() -> dict[str, str]:
    """Python's program runs with the Python that runs this."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("SIGLIP_")}
    return quiet | {"PATH": path}
