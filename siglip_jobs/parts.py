"""One part of the output: consecutive rows, as a Parquet file or as .npy with a list of ids beside it."""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from siglip_jobs import atomic
from siglip_jobs.errors import OutputError
from siglip_jobs.parquet import arrow

Dtype = Literal["f32", "f16"]
FileFormat = Literal["parquet", "npy"]
NUMPY = {"f32": np.float32, "f16": np.float16}


class Part:
    """Rows that are answered and not yet written. `vectors` has room for all of them from the start."""

    def __init__(self, rows: int, dim: int, dtype: Dtype) -> None:
        self._vectors = np.empty((rows, dim), NUMPY[dtype])
        self.ids: list[str] = []
        self.errors: list[str | None] = []
        self.columns: list[tuple[Any, ...]] = []
        self.end = 0
        """The position in the source from which on nothing is in here."""
        self.check = b""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_full(self) -> bool:
        return len(self.ids) == len(self._vectors)

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """[rows, dim]; NaN where a row has an error."""
        return self._vectors[: len(self)]

    def add(
        self, identity: str, vector: npt.NDArray[Any] | None, error: str | None, columns: tuple[Any, ...]
    ) -> None:
        self._vectors[len(self)] = np.nan if vector is None else vector
        self.ids.append(identity)
        self.errors.append(error)
        self.columns.append(columns)


@dataclass(frozen=True, slots=True)
class Layout:
    """How parts become files. `columns` are those of metadata, each with its Arrow type; None: text."""

    format: FileFormat
    dim: int
    columns: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises JobError where what it takes is not installed: before the work, not after it."""
        if self.format == "parquet":
            arrow()

    def names(self, number: int) -> list[str]:
        ends = (".parquet",) if self.format == "parquet" else (".ids.jsonl", ".npy")
        return [f"part-{number:05d}{end}" for end in ends]

    def write(self, part: Part, folder: Path, number: int) -> dict[str, int]:
        """Under unfinished names. Returns the bytes of each file. Raises OutputError."""
        writers = (self._parquet,) if self.format == "parquet" else (self._ids, self._matrix)
        return {
            name: atomic.write_unfinished(folder / name, partial(writer, part))
            for name, writer in zip(self.names(number), writers, strict=True)
        }

    def _parquet(self, part: Part, file: BinaryIO) -> None:
        pa = arrow()
        # Vectors never repeat: dictionaries of their numbers only make readers slower.
        pa.parquet.write_table(
            self._table(pa, part),
            file,
            use_dictionary=["error", *self.columns],
            write_page_checksum=True,  # whoever reads it can tell damage
        )

    def _table(self, pa: Any, part: Part) -> Any:
        failed = np.array([error is not None for error in part.errors], bool)
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(part.vectors.reshape(-1)), self.dim, mask=pa.array(failed)
        )
        arrays = {
            "id": pa.array(part.ids, pa.string()),
            "vector": vectors,
            "error": pa.array(part.errors, pa.string()),
        }
        for position, (name, kind) in enumerate(self.columns.items()):
            values = [row[position] for row in part.columns]
            try:
                arrays[name] = pa.array(values, kind or pa.string())
            except pa.ArrowException as error:
                raise OutputError(f"column {name!r} cannot be written: {error}") from None
        return pa.table(arrays)

    def _matrix(self, part: Part, file: BinaryIO) -> None:
        np.save(file, part.vectors)

    def _ids(self, part: Part, file: BinaryIO) -> None:
        for identity, error, columns in zip(part.ids, part.errors, part.columns, strict=True):
            row = {"id": identity, "error": error, **dict(zip(self.columns, columns, strict=True))}
            file.write(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
