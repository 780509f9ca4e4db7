"""The recipe for Ray Data, on this machine: a real cluster of one node, a real service."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siglip_client import Client
from siglip_search import EmbeddedFolder, search
from tests.cli.service import clean_environ, serving
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.pictures import encoded, scene

ROOT = Path(__file__).parents[2]
PICTURES = 300

# One task dies in the middle of its work, once.
JOB = """
import os, sys
from pathlib import Path
import ray
from examples import ray_embed

source, out, address, died = sys.argv[1:]

class Dying(ray_embed.Embedder):
    def __call__(self, batch):
        table = super().__call__(batch)
        if not Path(died).exists():
            Path(died).touch()
            os._exit(1)
        return table

if __name__ == "__main__":
    ray_embed.ROWS_PER_CALL, ray_embed.Embedder = 64, Dying
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    ray_embed.embed(source, Path(out), address, tasks=2)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_row_for_each_picture_though_a_task_dies(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")
    data = [encoded(scene(40, 30, seed), "PNG") for seed in range(PICTURES)]
    data[7] = b"no picture"
    ids = [f"{number % 3}/{number:03}.png" for number in range(PICTURES)]
    for name, each in zip(ids, data, strict=True):
        (path := tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each)
    model = write_tiny_checkpoint(tmp_path / "tiny")
    with serving("--model", model, "--listen", "127.0.0.1:0", "--run-dir", tmp_path / "run") as service:
        words = [
            str(tmp_path / "pictures"),
            str(tmp_path / "vectors"),
            service.address,
            str(tmp_path / "died"),
        ]
        (tmp_path / "job.py").write_text(JOB)
        job = [sys.executable, str(tmp_path / "job.py"), *words]
        done = subprocess.run(job, cwd=ROOT, env=clean_environ(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        with Client(service.address) as client:
            expected = client.embed_images(data, on_error="return").vectors
    assert (tmp_path / "died").exists()
    folder = EmbeddedFolder(tmp_path / "vectors")
    assert sorted(folder.ids(range(folder.rows))) == sorted(ids)
    good = [number for number in range(PICTURES) if number != 7]
    vectors = folder.vectors(folder.find([ids[number] for number in good]))
    np.testing.assert_allclose(vectors, expected[good], atol=1e-6)
    found = search(folder, expected[[200]], top_k=1)
    assert (found.hits[0][0].id, found.rows, found.failed) == (ids[200], PICTURES, 1)
