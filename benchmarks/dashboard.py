"""`make dashboard`: every panel of the Grafana dashboard, drawn from what a real Prometheus has scraped.

A service works under a load that changes: few callers, many, a worker that is killed, few again. Needs the
program `prometheus` (Debian's package of that name). The pictures show the panels' queries and units; Grafana
itself draws them more finely.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.plot import Line, below, beside, plot
from broker import EmbeddedServer
from siglip_cli.probe import serves
from tests.faults.fleet import Part
from tests.faults.load import Book, Caller, right_answers
from tests.support.valkey import free_port, wait_until

CHECKPOINT = Path("checkpoints/shapes").resolve()
BOARD = Path("deploy/monitoring/dashboard.json")
FEW, MANY = 1, 8
STEP_S = 2
RATE_INTERVAL = "10s"
COLUMNS = 3
PARTS = {
    "gateway": ["gateway"],
    "text worker": ["worker", "--tower", "text"],
    "vision worker": ["worker", "--tower", "vision"],
    "another vision worker": ["worker", "--tower", "vision"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each of the four phases")
    parser.add_argument("--out", type=Path, default=Path("docs/dashboard.png"))
    options = parser.parse_args()
    if not shutil.which("prometheus"):
        print("not run: there is no program `prometheus` here (Debian: apt-get install prometheus)")
        return 1
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer() as queue:
        address, parts, pages = start(Path(folder), queue.url)
        try:
            with prometheus(Path(folder), pages) as url:
                began_s = time.time()
                load(address, parts, options.seconds)
                draw(url, began_s, time.time()).save(options.out)
        finally:
            for part in parts.values():
                part.end(signal.SIGKILL)
    print(f"{options.out}: {len(json.loads(BOARD.read_text())['panels'])} panels")
    return 0


def start(folder: Path, queue_url: str) -> tuple[str, dict[str, Part], list[str]]:
    """Address of the gateway, the processes by name, and where their pages are."""
    address, pages = f"127.0.0.1:{free_port()}", [f"127.0.0.1:{free_port()}" for _ in PARTS]
    parts = {}
    for (name, arguments), page in zip(PARTS.items(), pages, strict=True):
        environ = {"SIGLIP_REDIS_URL": queue_url, "SIGLIP_MODEL": str(CHECKPOINT)}
        environ |= {"SIGLIP_METRICS_LISTEN": page, "SIGLIP_LOG_LEVEL": "warning"}
        own = ["--listen", address] if name == "gateway" else ["--threads", "1"]
        parts[name] = Part(name, [*arguments, *own], environ, folder / f"{name}.log")
        parts[name].start()
    wait_until(lambda: serves(address), 120)
    return address, parts, pages


@contextmanager
def prometheus(folder: Path, pages: list[str]) -> Iterator[str]:
    """Scrapes the pages often."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "siglip", "static_configs": [{"targets": pages}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML too
    listen = f"127.0.0.1:{free_port()}"
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command.append(f"--web.listen-address={listen}")
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: ready(listen))
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait()


def ready(listen: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{listen}/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def load(address: str, parts: dict[str, Part], seconds: float) -> None:
    answers, book, callers = right_answers(CHECKPOINT), Book(), list[Caller]()
    for phase, count in enumerate((FEW, MANY, MANY, FEW)):
        while len(callers) < count:
            callers.append(Caller(address, answers, book, f"dashboard/{len(callers)}", 0.02))
            callers[-1].start()
        while len(callers) > count:
            callers.pop().stopping.set()
        if phase == 2:
            parts["another vision worker"].end(signal.SIGKILL)
            parts["another vision worker"].start()
        time.sleep(seconds)
    for caller in callers:
        caller.stopping.set()
        caller.join(30)


def draw(url: str, began_s: float, ended_s: float) -> Image.Image:
    sheets = [panel(url, each, began_s, ended_s) for each in json.loads(BOARD.read_text())["panels"]]
    rows = [sheets[first : first + COLUMNS] for first in range(0, len(sheets), COLUMNS)]
    return below(*(beside(*row) for row in rows))


def panel(url: str, each: dict[str, Any], began_s: float, ended_s: float) -> Image.Image:
    lines = [line for target in each["targets"] for line in ask(url, target, began_s, ended_s)]
    unit = each["fieldConfig"]["defaults"].get("unit", "")
    lines.sort(key=lambda line: -max((y for _, y in line.points), default=0))
    return plot(each["title"], "seconds", unit, lines)


def ask(url: str, target: dict[str, Any], began_s: float, ended_s: float) -> list[Line]:
    query = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    asked = urllib.parse.urlencode({"query": query, "start": began_s, "end": ended_s, "step": STEP_S})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=30) as reply:
        found = json.load(reply)["data"]["result"]
    return [Line(legend(target, series["metric"]), points(series["values"], began_s)) for series in found]


def legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), target["legendFormat"])


def points(values: list[tuple[float, str]], began_s: float) -> list[tuple[float, float]]:
    return [(at - began_s, float(value)) for at, value in values if value != "NaN"]


if __name__ == "__main__":
    sys.exit(main())
