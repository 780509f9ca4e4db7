"""Embeds pictures on a Ray cluster: every task streams its share to the gateways.

    pip install 'siglip[client]' 'ray[data]' pyarrow
    python -m examples.ray_embed pictures/ vectors/ --address gateway.example.org:50051 --tasks 8

Ray reads the pictures (a folder, or a URI such as s3://bucket/pictures), and writes Parquet that
`siglip search` and the exports read. The tasks compute nothing: their number is how many streams the
gateways get. A task that dies is run again by Ray, and its file takes the place of the one that it left;
so each picture has one row.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from siglip_client import Client, ImageItem, ModelDescription

ROWS_PER_CALL = 1024
"""Of a task. Between two calls its stream runs empty, so they should be many."""
PATIENCE_S = 600.0
"""So long a task waits for gateways that are away."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", help="folder or URI of pictures")
    parser.add_argument("out", type=Path, help="new folder, which all machines share")
    parser.add_argument("--address", default="127.0.0.1:50051", help="gateways [%(default)s]")
    parser.add_argument("--tasks", type=int, default=2, help="streams at a time [%(default)s]")
    arguments = parser.parse_args()
    embed(arguments.source, arguments.out, arguments.address, arguments.tasks)


def embed(source: str, out: Path, address: str, tasks: int) -> None:
    with Client(address) as client:
        served = client.get_model()
    out.mkdir(parents=True)  # a folder that is there already may hold rows of another run
    root = source.partition("://")[2] or str(Path(source).resolve())  # as paths of Ray begin
    pictures = ray.data.read_binary_files(source, include_paths=True)
    rows = pictures.map_batches(
        Embedder,
        fn_constructor_kwargs={"address": address, "root": root, "fingerprint": served.fingerprint},
        batch_size=ROWS_PER_CALL,
        batch_format="pyarrow",
        concurrency=tasks,
        num_cpus=0.25,  # it waits for the service most of its time
    )
    rows.write_parquet(str(out))
    write_manifest(out, root, served)


class Embedder:
    """One of the tasks. It keeps its connection from batch to batch."""

    def __init__(self, address: str, root: str, fingerprint: str) -> None:
        self.client = Client(address, priority="batch")
        served = self.client.get_model()
        if served.fingerprint != fingerprint:
            raise ValueError(f"{address} serves {served.fingerprint}, and the job began with {fingerprint}")
        self.root, self.dim = root, served.embedding_dim

    def __call__(self, batch: pa.Table) -> pa.Table:
        images = (ImageItem(row, data.as_py()) for row, data in enumerate(batch["bytes"]))
        vectors: list[Any] = [None] * len(batch)
        errors: list[str | None] = [None] * len(batch)
        for result in self.client.embed_stream(images, timeout_s=PATIENCE_S):
            assert isinstance(result.key, int)
            vectors[result.key] = result.vector
            errors[result.key] = f"{result.error.reason}: {result.error.message}" if result.error else None
        return pa.table(
            {
                "id": [path.removeprefix(f"{self.root}/") for path in batch["path"].to_pylist()],
                "vector": pa.array(vectors, pa.list_(pa.float32(), self.dim)),
                "error": pa.array(errors, pa.string()),
            }
        )


def write_manifest(out: Path, root: str, served: ModelDescription) -> None:
    """Last of all: without it the folder is none."""
    manifest = {
        "format": "siglip-embeddings",
        "version": 1,
        "model": {"name": served.name, "revision": served.revision, "fingerprint": served.fingerprint},
        "embedding_dim": served.embedding_dim,
        "dtype": "f32",
        "source": {"kind": "images", "root": root},
        "options": {"engine": "ray"},
        "parts": list(parts(out)),
        "finished": True,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def parts(out: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(out.glob("*.parquet")):
        yield {"files": {path.name: path.stat().st_size}, "rows": pq.read_metadata(path).num_rows}


if __name__ == "__main__":
    main()
