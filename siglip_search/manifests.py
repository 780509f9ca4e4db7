"""The manifest of an embedded folder, or those of its shares."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_search.errors import SearchError

_SHARE = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with parts. `shares`: how many such folders the whole job has."""

    path: Path
    manifest: dict[str, Any]
    shares: int = 1

    def parts(self) -> Iterator[tuple[str, int]]:
        """The files with vectors and their rows, in order; another that lies there is not finished."""
        try:
            for part in self.manifest["parts"]:
                name = next(name for name in part["files"] if name.endswith((".parquet", ".npy")))
                yield name, part["rows"]
        except (KeyError, TypeError, StopIteration):
            raise SearchError(
                f"{self.path / 'manifest.json'} does not list the parts of the folder"
            ) from None


def places(path: Path) -> list[Place]:
    """The folder itself, or all shares in it. Raises SearchError for neither."""
    if not path.is_dir():
        raise SearchError(f"there is no folder {path}")
    if (path / "manifest.json").exists():
        return [Place(path, _manifest(path / "manifest.json"))]
    shares = sorted(
        (int(found[1]), int(found[2]), share)
        for share in path.glob("shard-*")
        if (found := _SHARE.fullmatch(share.name)) and (share / "manifest.json").exists()
    )
    if not shares:
        raise SearchError(_no_folder(path))
    counts = sorted({count for _, count, _ in shares})
    if len(counts) > 1:
        raise SearchError(
            f"{path} holds shares of several jobs, of {' and of '.join(map(str, counts))}: search one of them"
        )
    return [Place(share, _manifest(share / "manifest.json"), count) for _, count, share in shares]


def _no_folder(path: Path) -> str:
    if any(path.glob(".lock")) or any(path.glob("shard-*/.lock")):
        return f"the job of {path} has not written a part yet"
    return f"{path} is no embedded folder: it has no manifest.json; make one with 'siglip embed'"


def fingerprint(manifest: dict[str, Any]) -> str:
    """Of the model that made the vectors."""
    return str(manifest["model"]["fingerprint"])


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        dim, right = (
            manifest["embedding_dim"],
            manifest["format"] == "siglip-embeddings" and fingerprint(manifest),
        )
    except OSError as error:
        raise SearchError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        dim, right = 0, False
    if not right or not isinstance(dim, int) or dim < 1:
        raise SearchError(f"{path} is not the manifest of an embedded folder")
    if manifest.get("version") != 1:
        raise SearchError(f"{path} has version {manifest.get('version')!r}; this program reads version 1")
    return manifest
