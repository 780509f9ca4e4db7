import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkpoints import write_tiny_checkpoint

CODE = """
import sys
from siglip_model.checkpoint import load_tower
load_tower(sys.argv[1], sys.argv[2])
print([name for name in sys.modules if name in ("torch._dynamo", "torch._inductor")])
"""


@pytest.mark.parametrize("tower", ["text", pytest.param("vision", marks=pytest.mark.slow)])
def test_loading_leaves_torchs_compiler_alone(tmp_path: Path, tower: str) -> None:
    """It would take a second of every worker's start, and leave a folder in the temporary one."""
    folder = write_tiny_checkpoint(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", CODE, folder, tower], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
