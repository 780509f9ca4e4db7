"""Network namespaces as hosts on one switch, whose cables can be pulled. Needs root and iproute2."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

NETWORK = "10.77.0"


class Hosts:
    """Host number n, from 1, has the address 10.77.0.n; nobody outside sees any of it."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def inside(self, name: str) -> list[str]:
        """Words of a command that runs another on that host."""
        return ["ip", "netns", "exec", self._space(name)]

    def address(self, name: str) -> str:
        return f"{NETWORK}.{1 + self._names.index(name)}"

    def cut(self, name: str) -> None:
        """What this host sends and what is sent to it vanishes."""
        self._ip("switch", "link", "set", name, "down")

    def mend(self, name: str) -> None:
        self._ip("switch", "link", "set", name, "up")

    def silence(self, name: str, to: str) -> None:
        """What this host sends to the other vanishes; it still hears the other."""
        self._ip(name, "route", "add", "blackhole", f"{self.address(to)}/32")

    def unsilence(self, name: str, to: str) -> None:
        self._ip(name, "route", "del", "blackhole", f"{self.address(to)}/32")

    def _space(self, name: str) -> str:
        return f"siglip-{os.getpid()}-{name}"

    def _ip(self, name: str, *words: str) -> None:
        _run("-n", self._space(name), *words)

    def _build(self) -> None:
        _run("netns", "add", self._space("switch"))
        self._ip("switch", "link", "add", "bridge", "type", "bridge")
        self._ip("switch", "link", "set", "bridge", "up")
        for name in self._names:
            _run("netns", "add", self._space(name))
            peer = ("type", "veth", "peer", "name", name, "netns", self._space("switch"))
            self._ip(name, "link", "add", "cable", *peer)
            self._ip(name, "address", "add", f"{self.address(name)}/24", "dev", "cable")
            self._ip(name, "link", "set", "cable", "up")
            self._ip(name, "link", "set", "lo", "up")
            self._ip("switch", "link", "set", name, "master", "bridge", "up")

    def _remove(self) -> None:
        for name in ("switch", *self._names):
            subprocess.run(["ip", "netns", "delete", self._space(name)], capture_output=True, check=False)


@contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Connected hosts; removed in the end, with the processes on them ended by their owners."""
    found = Hosts(*names)
    try:
        found._build()
        yield found
    finally:
        found._remove()


def why_not() -> str:
    """Why there can be no such hosts here; empty where there can."""
    if not shutil.which("ip"):
        return "no `ip` on this machine (Debian: iproute2)"
    try:
        with hosts("probe"):
            return ""
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.decode().strip()}"


def _run(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
