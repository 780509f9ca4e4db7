"""`make fuzz SECONDS=60`: every target in its own process under libFuzzer, and a table of what it found.

What reached new code is kept in fuzz/corpus for the next run. An input that breaks a promise is put
into .fuzz; after the fix it moves to fuzz/regressions. The tests replay both.
"""

import argparse
import hashlib
import importlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

HERE = Path(__file__).parent
WORK = HERE.parent / ".fuzz"
TARGETS = ("calls", "images", "queue_entries", "texts", "checkpoint")
INSTRUMENTED = ["gateway", "broker", "siglip_model", "PIL"]
PER_INPUT_S = 20
MEMORY_MIB = 2048
CHILD = "child"  # this process is one target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=TARGETS, help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args()
    print(f"{'target':14}{'executions':>12}{'corpus':>8}{'findings':>10}")
    found = 0
    for target in options.targets:
        found += report(target, options.seconds)
    return 1 if found else 0


def target_module(name: str) -> ModuleType:
    return importlib.import_module(f"fuzz.{name}")


def known_inputs(name: str) -> Iterator[bytes]:
    """Seeds, what earlier runs kept, and what once broke a promise."""
    yield from target_module(name).seeds()
    if kept(name).is_file():
        with ZipFile(kept(name)) as archive:
            yield from (archive.read(member) for member in archive.namelist())
    folder = HERE / "regressions" / name
    yield from (path.read_bytes() for path in sorted(folder.glob("*")))


def kept(name: str) -> Path:
    return HERE / "corpus" / f"{name}.zip"


def keep(name: str, corpus: Path) -> None:
    """Dates are left out, so that the same inputs are the same file."""
    kept(name).parent.mkdir(exist_ok=True)
    with ZipFile(kept(name), "w", ZIP_DEFLATED) as archive:
        for path in sorted(corpus.iterdir()):
            archive.writestr(ZipInfo(path.name), path.read_bytes(), ZIP_DEFLATED)


def report(name: str, seconds: int) -> int:
    """Runs one target, prints its line, and gives the number of findings."""
    corpus, findings = WORK / "corpus" / name, WORK / "findings" / name
    shutil.rmtree(corpus, ignore_errors=True)
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for data in known_inputs(name):
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)  # as libFuzzer names them
    executions, end = 0, time.monotonic() + seconds
    before = set(findings.iterdir())
    while (left_s := end - time.monotonic()) > 1:  # libFuzzer stops at its first finding
        log = run(name, corpus, findings, int(left_s))
        numbers = re.findall(r"number_of_executed_units: (\d+)|^#(\d+)\s", log, re.MULTILINE)
        executions += max((int(a or b) for a, b in numbers), default=0)
        if not numbers:
            print(log[-3000:])
            raise SystemExit(f"{name} did not run")
    keep(name, corpus)
    new = sorted(set(findings.iterdir()) - before)
    print(f"{name:14}{executions:>12,}{len(list(corpus.iterdir())):>8}{len(new):>10}", flush=True)
    for path in new[:5]:
        print(f"    {path.relative_to(WORK.parent)}")
    return len(new)


def run(name: str, corpus: Path, findings: Path, seconds: int) -> str:
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={findings}/",
        f"-timeout={PER_INPUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "fuzz.run", CHILD, name, *options, str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    (findings.parent / f"{name}.log").write_text(done.stderr + done.stdout)
    return done.stderr + done.stdout


def fuzz(name: str, *options: str) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        check: Callable[[bytes], None] = target_module(name).check
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        fuzz(*sys.argv[2:])
    sys.exit(main())
