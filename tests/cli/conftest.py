import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.service import Service, serving
from tests.support.checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A whole service for the tests that only call one."""
    run_dir = tmp_path_factory.mktemp("run")
    with serving("--model", model, "--listen", "127.0.0.1:0", "--run-dir", run_dir) as service:
        yield service


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(file, "PNG")
    return file.getvalue()
