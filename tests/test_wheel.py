"""The wheel, built and installed in clean environments, extra by extra."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path) -> str:
    """Output of a command; its errors are shown when it fails."""
    words = [str(part) for part in command]
    result = subprocess.run(words, capture_output=True, text=True, cwd="/", check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (made,) = folder.glob("siglip-*.whl")
    return made


def install(folder: Path, wheel: Path, extra: str) -> Path:
    """The interpreter of a new environment that holds the wheel with one extra."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, f"{wheel}[{extra}]")
    return python


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_client_needs_neither_torch_nor_redis(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "client", wheel, "client")
    run(python, "-c", "import siglip_client, siglip.v1.embedding_pb2")
    installed = run(python, "-m", "pip", "list", "--format=freeze").lower()
    assert "grpcio==" in installed
    assert not {"torch", "redis", "pillow"} & {line.split("==")[0] for line in installed.split()}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gateway_needs_no_torch(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "gateway", wheel, "gateway")
    run(python, "-c", "import gateway.server, broker")
    installed = run(python, "-m", "pip", "list", "--format=freeze").lower()
    assert "torch" not in {line.split("==")[0] for line in installed.split()}


def test_the_wheel_carries_types_contract_and_licence(wheel: Path) -> None:
    names = run(sys.executable, "-m", "zipfile", "--list", wheel)
    for wanted in (
        "siglip_model/py.typed",
        "siglip_client/py.typed",
        "siglip_jobs/py.typed",
        "siglip/v1/embedding.proto",
        "siglip/v1/embedding_pb2.pyi",
        "licenses/LICENSE",
    ):
        assert wanted in names
    for unwanted in ("training/", "benchmarks/", "tests/", "checkpoints/"):
        assert unwanted not in names
