"""What a job has written, as tests compare it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from siglip_client import Client
from siglip_jobs.atomic import UNFINISHED
from siglip_jobs.choice import Choice
from siglip_jobs.job import Job
from siglip_jobs.options import Options, Summary
from siglip_jobs.sources import open_source

Row = tuple[npt.NDArray[Any] | None, str | None]


def embed(source: object, out: Path, client: Client, choice: Choice | None = None, **options: Any) -> Summary:
    return Job(open_source(str(source), choice), out, client, Options(**options)).run()


def rows(out: Path) -> dict[str, Row]:
    """(vector, error) of each id; an id that is there twice is a failure."""
    found: dict[str, Row] = {}
    for manifest in sorted(out.glob("**/manifest.json")):
        for part in json.loads(manifest.read_bytes())["parts"]:
            for identity, vector, error in _part(manifest.parent, list(part["files"])):
                assert identity not in found, f"{identity} is there twice"
                assert (vector is None or np.isnan(vector).all()) == (error is not None)
                found[identity] = (None if error else np.asarray(vector), error)
    return found


def _part(folder: Path, names: list[str]) -> Iterator[tuple[str, Any, str | None]]:
    if names[0].endswith(".parquet"):
        table = pq.read_table(folder / names[0])
        return zip(
            table["id"].to_pylist(), table["vector"].to_numpy(), table["error"].to_pylist(), strict=True
        )
    lines = [json.loads(line) for line in (folder / names[0]).read_bytes().splitlines()]
    vectors = np.load(folder / names[1])
    return ((line["id"], row, line["error"]) for line, row in zip(lines, vectors, strict=True))


def assert_same(one: dict[str, Row], other: dict[str, Row]) -> None:
    assert sorted(one) == sorted(other)
    for identity, (vector, error) in one.items():
        assert error == other[identity][1]
        if vector is not None:
            np.testing.assert_allclose(vector, other[identity][0], rtol=0, atol=1e-6)


def files(out: Path) -> dict[str, tuple[int, int]]:
    """Of each part, what tells that it was not written again; whether or not it has its name yet."""
    found = [(path.name.removesuffix(UNFINISHED), path.stat()) for path in out.glob("part-*")]
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found}


def errors(out: Path) -> dict[str, str]:
    lines = (out / "errors.jsonl").read_text().splitlines()
    return {line["id"]: line["error"] for line in map(json.loads, lines)}
