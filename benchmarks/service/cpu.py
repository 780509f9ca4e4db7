"""CPU time of this program and all that it has started, by what they are. Nothing where there is no /proc."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

# The first words that are in a command line name the process.
NAMES = {
    "decode_helper": "decoding",
    "siglip_cli gateway": "gateway",
    "--tower text": "text worker",
    "--tower vision": "vision worker",
    "valkey-server": "queue",
    "echo_server": "echo server",
    "queue_echo": "echo worker",
    "naive_server": "transformers + FastAPI",
    "infinity_emb": "Infinity",
    "siglip_cli serve": "supervisor",
}
CLIENT = "client"


def seconds() -> Mapping[str, float]:
    """User and system time so far, by name; of this process as `client`."""
    found = defaultdict[str, float](float)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    for process, name in _processes().items():
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        found[name] += (int(fields[11]) + int(fields[12])) * tick_s
    return found


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Of those that did anything."""
    spent_s = {name: after_s - before.get(name, 0.0) for name, after_s in after.items()}
    return {name: each_s for name, each_s in spent_s.items() if each_s > 0.005}


def _processes() -> dict[int, str]:
    """This process and its descendants whose names are known."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {os.getpid(): CLIENT}
    for process in parents:
        if process != os.getpid() and _descends(process, parents) and (name := _name(process)):
            found[process] = name
    return found


def _descends(process: int, parents: dict[int, int]) -> bool:
    while process in parents:
        process = parents[process]
        if process == os.getpid():
            return True
    return False


def _name(process: int) -> str | None:
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return next((name for words, name in NAMES.items() if words in command), None)
