from pathlib import Path

import pytest

from training.vocabulary import train_vocabulary


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    train_vocabulary(file, captions=3000)
    return file
