"""Locks what deployment images install: exact versions with the hashes of their files.

`lock.py` writes deploy/requirements/ from the extras of pyproject.toml and the versions of constraints.txt;
it asks the package index, through uv. `lock.py --check` compares without a network.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# What the index's torch brings along; its CPU build, which is not in the index, does without.
CUDA = re.compile(r"torch|triton|nvidia-.*|cuda-.*")

# By pyproject.toml nothing else is asked for.
ALWAYS = "sys_platform == 'linux'"

# Extras that a setting of every process asks for.
ALSO = ("traces",)

INSTALL = "pip install --require-hashes"
HEADERS = {
    "build.txt": f"# What builds our own package. {INSTALL} -r build.txt\n",
    "gateway.txt": f"# A gateway on Linux. {INSTALL} -r gateway.txt\n",
    "worker.txt": f"# A worker on Linux, but for torch. {INSTALL} -r worker.txt -r torch-cuda.txt\n",
    "torch-cuda.txt": "# torch as the package index has it: with CUDA on Linux.\n",
    "torch-cpu.txt": """\
# torch without CUDA, for CPython 3.11 on Linux x86-64. The package index has no such build:
# this is the hash of the file that was given to `make lock TORCH_WHEEL=...`. Compare it with the publisher's.
""",
}
MADE = "# Made by `make lock`; do not edit.\n"

Blocks = dict[str, str]
"""Lines of each package, by its name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--torch-wheel", type=Path, help="a CPU build, to write torch-cpu.txt from")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    if arguments.check:
        found = list(stale(arguments.root))
        for line in found:
            print(f"{line}: run `make lock`", file=sys.stderr)
        return 1 if found else 0
    lock(arguments.root, arguments.torch_wheel)
    return 0


def lock(root: Path, torch_wheel: Path | None) -> None:
    write(root, "build.txt", compiled_build(root))
    worker = compiled(root, "worker")
    cuda = {name: lines for name, lines in worker.items() if CUDA.fullmatch(name)}
    write(root, "gateway.txt", compiled(root, "gateway"))
    write(root, "worker.txt", {name: lines for name, lines in worker.items() if name not in cuda})
    write(root, "torch-cuda.txt", cuda)
    if torch_wheel:
        version = torch_wheel.name.split("-")[1]
        digest = hashlib.sha256(torch_wheel.read_bytes()).hexdigest()
        write(root, "torch-cpu.txt", {"torch": f"torch=={version} \\\n    --hash=sha256:{digest}\n"})


def compiled(root: Path, extra: str) -> Blocks:
    extras = [word for name in (extra, *ALSO) for word in ("--extra", name)]
    return resolved(root, ["pyproject.toml", *extras])


def compiled_build(root: Path) -> Blocks:
    return resolved(root, ["-"], "\n".join(build_requirements(root)))


def build_requirements(root: Path) -> list[str]:
    system = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]
    return [str(text) for text in system["requires"]]


def resolved(root: Path, what: list[str], given: str = "") -> Blocks:
    """What uv makes of its arguments `what`, and of the requirements `given` to its standard input."""
    command = [
        *(str(Path(sys.executable).parent / "uv"), "pip", "compile", *what),
        *("--constraint", "constraints.txt", "--universal", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--quiet"),
    ]
    made = subprocess.run(command, cwd=root, input=given, check=True, capture_output=True, text=True).stdout
    return blocks(re.sub(f"(?: ;| and) {ALWAYS}", "", made))


def write(root: Path, name: str, packages: Blocks) -> None:
    (root / "deploy" / "requirements" / name).write_text(HEADERS[name] + MADE + "".join(packages.values()))


def blocks(text: str) -> Blocks:
    lines = re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n?", text, re.MULTILINE)
    return {canonicalize_name(each.partition("==")[0]): each for each in lines}


def stale(root: Path) -> Iterator[str]:
    """What in the locked files does not fit pyproject.toml and constraints.txt."""
    pins = versions(blocks((root / "constraints.txt").read_text()))
    folder = root / "deploy" / "requirements"
    locked = {name: blocks((folder / name).read_text()) for name in HEADERS}
    for file, packages in locked.items():
        for name, version in versions(packages).items():
            if "--hash=sha256:" not in packages[name]:
                yield f"{file}: {name} has no hash"
            if version.partition("+")[0] != pins.get(name, version):
                yield f"{file}: {name} is {version}, and {pins[name]} in constraints.txt"
    for text in build_requirements(root):
        yield from unmet(Requirement(text), "build.txt", versions(locked["build.txt"]))
    for extra in ("gateway", "worker"):
        for torch in ("torch-cuda.txt", "torch-cpu.txt"):
            have = versions({**locked[f"{extra}.txt"], **(locked[torch] if extra == "worker" else {})})
            for name in (extra, *ALSO):
                yield from missing(root, name, f"{extra}.txt", have)


def missing(root: Path, extra: str, file: str, have: dict[str, str]) -> Iterator[str]:
    for requirement in required(root, extra):
        yield from unmet(requirement, file, have)


def unmet(requirement: Requirement, file: str, have: dict[str, str]) -> Iterator[str]:
    version = have.get(canonicalize_name(requirement.name))
    if version is None or not requirement.specifier.contains(version):
        yield f"{file}: {requirement} is not there" + (f", but {version}" if version else "")


def required(root: Path, extra: str) -> Iterator[Requirement]:
    """Of an extra, and of those that it names."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        requirement = Requirement(text)
        if requirement.name == project["name"]:
            for inner in sorted(requirement.extras):
                yield from required(root, inner)
        else:
            yield requirement


def versions(packages: Blocks) -> dict[str, str]:
    return {name: re.split(r"==|[\s;\\]", lines)[1] for name, lines in packages.items()}


if __name__ == "__main__":
    sys.exit(main())
