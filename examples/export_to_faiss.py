"""An embedded folder as a FAISS index.

    pip install faiss-cpu
    python -m examples.export_to_faiss vectors/ vectors.faiss

writes vectors.faiss, whose inner products are cosines, and vectors.faiss.ids.json with the id of each of
its rows. The index is exact, so it finds what `siglip search` finds; for many millions of rows put another
one of FAISS in its place (train it on a sample first).
"""

import argparse
import json
import sys
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from siglip_search import EmbeddedFolder, SearchError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder that `siglip embed` filled")
    parser.add_argument("index", type=Path, help="index to write")
    arguments = parser.parse_args()
    try:
        print(f"{export(arguments.folder, arguments.index):,} vectors in {arguments.index}")
    except SearchError as error:
        print(f"export failed: {error}", file=sys.stderr)
        return 1
    return 0


def export(place: Path, index_file: Path) -> int:
    """How many rows were written; those that failed are left out."""
    folder = EmbeddedFolder(place)
    index, ids = faiss.IndexFlatIP(folder.dim), []
    for names, vectors in folder.items():
        index.add(vectors)
        ids += names
    faiss.write_index(index, str(index_file))
    ids_file(index_file).write_text(json.dumps(ids), encoding="utf-8")
    return len(ids)


def nearest(index_file: Path, queries: npt.NDArray[np.float32], top_k: int) -> list[list[tuple[str, float]]]:
    """(id, cosine) of the best rows for each query, float32 [n, dim] of length 1."""
    ids = json.loads(ids_file(index_file).read_text(encoding="utf-8"))
    cosines, rows = faiss.read_index(str(index_file)).search(queries, top_k)
    return [
        [(ids[row], cosine) for row, cosine in zip(*pair, strict=True) if row >= 0]
        for pair in zip(rows.tolist(), cosines.tolist(), strict=True)
    ]


def ids_file(index_file: Path) -> Path:
    return index_file.with_name(index_file.name + ".ids.json")


if __name__ == "__main__":
    sys.exit(main())
