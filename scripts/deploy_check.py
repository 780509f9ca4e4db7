"""Checks deploy/: lints, schemas, and images that are really built and run.

Exit status: 0 all is well, 1 something is wrong, 2 something could not be checked here (0 with
--allow-missing).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.images import BuildError, Store, size_bytes
from scripts.lock import blocks, versions
from scripts.running import answers

ROOT = Path(__file__).parent.parent
STORE = ROOT / ".deploy"
MAX_GATEWAY_BYTES = 300_000_000
# What a shell, YAML, a URL or the queue's configuration could take for something else.
PASSWORD = "a b'c\"$HOME@d/#%41"
PASSWORD_VARIABLES = {"QUEUE_PASSWORD", "SIGLIP_REDIS_PASSWORD"}
CPU_WHEEL = "deploy/requirements/torch-cpu.txt"
GPU_WHEELS = "deploy/requirements/torch-cuda.txt"


class Missing(Exception):
    """It cannot be checked here. The message says why."""


class Wrong(Exception):
    """What was found."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    run: Callable[[Path], str]
    """Takes the folder of the tools; what it found, in words. Raises Missing, Wrong or BuildError."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, default=ROOT / ".venv-deploy" / "bin")
    parser.add_argument("--allow-missing", action="store_true")
    parser.add_argument("--only", choices=[check.name for check in CHECKS], help="a check's name")
    arguments = parser.parse_args()
    chosen = [check for check in CHECKS if arguments.only in (None, check.name)]
    try:
        statuses = [told(check, arguments.tools) for check in chosen]
    finally:
        if any(check.run in OF_IMAGES for check in chosen):
            tidy()
    if 1 in statuses:
        return 1
    return 2 if 2 in statuses and not arguments.allow_missing else 0


def tidy() -> None:
    try:
        needs_images().tidy()
    except Missing:
        pass  # then nothing was made
    except BuildError as error:
        print(f"what was made in {STORE} is left there: {error}", file=sys.stderr)


def told(check: Check, tools: Path) -> int:
    """Runs a check, prints a line and returns its status."""
    print(f"{check.name:18}", end="", flush=True)
    began_s = time.monotonic()
    try:
        word, line, status = "ok", check.run(tools), 0
    except Missing as reason:
        word, line, status = "NOT RUN", str(reason), 2
    except (Wrong, BuildError) as found:
        word, line, status = "WRONG", str(found), 1
    seconds = time.monotonic() - began_s
    print(f"{word:9}{line}" + (f" ({seconds:.0f} s)" if seconds >= 1 else ""), flush=True)
    return status


def lint(tools: Path) -> str:
    files = sorted((ROOT / "deploy" / "containers").glob("*.Containerfile"))
    ran(tools / "hadolint", "--failure-threshold", "style", *files)
    return f"{len(files)} files"


def chart(tools: Path) -> str:
    ran(tools / "python", "-m", "scripts.charts")
    return "every case renders, and what is of Kubernetes itself fits its schemas; wrong values are refused"


def compose(tools: Path) -> str:
    command: list[str | Path] = [
        tools / "docker-compose",
        "--file",
        ROOT / "deploy" / "compose.yaml",
        "config",
    ]
    read = ran(*command, "--format", "json", environ={"QUEUE_PASSWORD": PASSWORD})
    # In what it prints $$ is how one writes $.
    services = json.loads(read.replace("$$", "$"))["services"]
    for name, service in services.items():
        environ = service.get("environment", {})
        for variable in PASSWORD_VARIABLES & environ.keys():
            if environ[variable] != PASSWORD:
                raise Wrong(f"{name}: {variable} is {environ[variable]!r}, not {PASSWORD!r}")
    return f"services {', '.join(sorted(services))}"


def gateway_image(tools: Path) -> str:
    store = needs_images()
    base = store.take_base()
    files = store.files_of(store.build("gateway"))
    if (size := size_bytes(files)) > MAX_GATEWAY_BYTES:
        raise Wrong(f"{size / 1e6:.0f} MB, at most {MAX_GATEWAY_BYTES / 1e6:.0f}")
    if torch := list((files / "opt" / "siglip").glob("lib/*/site-packages/torch")):
        raise Wrong(f"it has torch: {torch[0]}")
    return f"{size / 1e6:.0f} MB, on {base}"


def worker_image(tools: Path) -> str:
    store = needs_images()
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    (version,) = versions(blocks((ROOT / CPU_WHEEL).read_text())).values()
    if not wheels or not list(Path(wheels).glob(f"torch-{version}-*.whl")):
        raise Missing(f"no torch {version}, which {CPU_WHEEL} names, in a folder that PIP_FIND_LINKS names")
    store.take_base()
    context = ["--build-arg", "TORCH=cpu", "--build-context", f"wheels={wheels}"]
    return f"{size_bytes(store.files_of(store.build('worker', *context))) / 1e6:.0f} MB, torch for CPU"


def cuda_image(tools: Path) -> str:
    raise Missing(f"it needs 5 GB of packages ({GPU_WHEELS}) and a GPU to be worth anything")


def service(tools: Path) -> str:
    store = needs_images()
    if absent := [part for part in ("gateway", "worker") if not store.has(f"siglip-{part}:check")]:
        raise Missing(f"no image of {' and '.join(absent)}")
    return answers(store)


def needs_images() -> Store:
    """The store. Raises Missing."""
    for tool in ("buildah", "debootstrap", "unshare"):
        if not shutil.which(tool):
            raise Missing(
                f"no {tool} on this machine (Debian: apt-get install buildah debootstrap util-linux)"
            )
    if os.geteuid() != 0:
        raise Missing("images are built and run as root here")
    return Store.at(STORE)


def ran(*command: str | Path, environ: dict[str, str] | None = None) -> str:
    """Raises Missing without the program, and Wrong with what it said when it failed."""
    words = [str(word) for word in command]
    try:
        env = os.environ | (environ or {})
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=env)
    except FileNotFoundError as error:
        raise Missing(f"no {words[0]}") from error
    if done.returncode:
        raise Wrong((done.stdout + done.stderr).strip())
    return done.stdout


CHECKS = (
    Check("container files", lint),
    Check("chart", chart),
    Check("compose", compose),
    Check("gateway image", gateway_image),
    Check("worker image", worker_image),
    Check("CUDA image", cuda_image),
    Check("service", service),
)
OF_IMAGES = (gateway_image, worker_image, service)


if __name__ == "__main__":
    sys.exit(main())
