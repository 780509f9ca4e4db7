"""Embedded folders as `siglip embed` writes them, made from arrays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FINGERPRINT = "f" * 16
ENDS = {"parquet": [".parquet"], "npy": [".ids.jsonl", ".npy"]}


def random_vectors(rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """float32 [rows, dim] of length 1."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_folder(
    folder: Path,
    vectors: np.ndarray,
    *,
    ids: Sequence[str] = (),
    parts: int = 3,
    format: str = "parquet",
    dtype: str = "f32",
    complete: bool = True,
    fingerprint: str = FINGERPRINT,
    **source: Any,
) -> Path:
    """A row of NaN is one that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(ids) or [f"{number:05}.png" for number in range(len(vectors))]
    stored = vectors.astype({"f32": np.float32, "f16": np.float16}[dtype])
    entries = []
    for number, rows in enumerate(np.array_split(np.arange(len(vectors)), parts)):
        write = _parquet if format == "parquet" else _npy
        path = folder / f"part-{number:05}"
        write(path, stored[rows], [names[row] for row in rows])
        files = [f"{path.name}{end}" for end in ENDS[format]]
        entries.append({"files": dict.fromkeys(files, 1), "rows": len(rows), "failed": 0, "end": 0})
    manifest = {
        "format": "siglip-embeddings",
        "version": 1,
        "model": {"name": "tiny", "revision": "", "fingerprint": fingerprint},
        "embedding_dim": vectors.shape[1],
        "dtype": dtype,
        "source": {"kind": "images", "root": str(folder / "pictures")} | source,
        "options": {},
        "parts": entries,
        "finished": complete,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _parquet(path: Path, vectors: np.ndarray, ids: list[str]) -> None:
    failed = np.isnan(vectors).all(axis=1)
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind, mask=pa.array(failed))
    errors = pa.array(["IMAGE_EMPTY: 0 bytes" if bad else None for bad in failed], pa.string())
    table = pa.table({"id": pa.array(ids, pa.string()), "vector": lists, "error": errors})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=100, write_page_checksum=True)


def _npy(path: Path, vectors: np.ndarray, ids: list[str]) -> None:
    np.save(path.with_suffix(".npy"), vectors)
    lines = [json.dumps({"id": name, "error": None}) for name in ids]
    path.with_suffix(".ids.jsonl").write_text("".join(line + "\n" for line in lines))
