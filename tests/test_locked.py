"""What deployment images install: locked, fresh, and enough."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from scripts.audit import verdict
from scripts.lock import stale

ROOT = Path(__file__).parent.parent
LOCKED = ROOT / "deploy" / "requirements"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(LOCKED, tmp_path / "deploy" / "requirements")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_locked_files_are_fresh() -> None:
    assert list(stale(ROOT)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("constraints.txt", "redis==8.1.0", "redis==8.1.1", "redis is 8.1.0, and 8.1.1 in constraints.txt"),
        (
            "constraints.txt",
            "torch==2.13.0",
            "torch==2.14.0",
            "torch-cpu.txt: torch is 2.13.0+cpu, and",
        ),
        (
            "pyproject.toml",
            '"pillow>=11"',
            '"pillow>=99"',
            "gateway.txt: pillow>=99 is not there, but",
        ),
        ("pyproject.toml", '"grpcio>=1.76",', '"grpcio>=1.76", "tomli",', "gateway.txt: tomli is not there"),
        ("deploy/requirements/torch-cpu.txt", "--hash=sha256", "# ", "torch-cpu.txt: torch has no hash"),
    ],
)
def test_a_change_makes_them_stale(copy: Path, file: str, old: str, new: str, told: str) -> None:
    change(copy / file, old, new)
    assert any(told in line for line in stale(copy))


def test_no_package_index_is_named() -> None:
    for file in LOCKED.iterdir():
        assert "://" not in file.read_text() and "index-url" not in file.read_text()


def test_an_audit_that_could_not_look_is_no_pass() -> None:
    good = {"name": "a", "version": "1", "vulns": []}
    assert verdict({"dependencies": [good]}) == ("1 packages, no known vulnerability", 0)
    assert verdict({"dependencies": [good, {"name": "b", "skip_reason": "not found"}]})[1] == 2
    assert verdict({"dependencies": []})[1] == 2
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1"}]}
    assert verdict({"dependencies": [good, bad]}) == ("c 2: CVE-1", 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gateway_installs_from_them_alone(tmp_path: Path) -> None:
    def run(*command: str | Path) -> str:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("siglip-*.whl")
    venv.create(tmp_path / "image", with_pip=True)
    python = tmp_path / "image" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", LOCKED / "gateway.txt")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    run(python, "-m", "pip", "check")
    run(python, "-P", "-c", "import gateway.server, broker")
    assert "usage" in run(tmp_path / "image" / "bin" / "siglip", "gateway", "--help").lower()
    assert "torch" not in run(python, "-m", "pip", "list").lower()
