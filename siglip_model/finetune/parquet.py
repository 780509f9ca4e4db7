"""Reads Parquet files: pictures go into one plain file, so that any of them can be read at any time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from siglip_model.finetune.folders import usable
from siglip_model.finetune.pairs import Bad, Data, Pair
from siglip_model.finetune.recipe import TrainingError

ROWS_AT_ONCE = 64


def read_parquet(files: list[Path], columns: tuple[str, str], store: Path, bad: Bad) -> Data:
    """`columns` are those of image and text; `store` is the file for the pictures.

    An image is bytes, {bytes, path} as Hugging Face datasets writes, or a path beside the file.
    Raises TrainingError.
    """
    arrow = _pyarrow()
    with store.open("wb") as pictures:
        pairs = [pair for file in files for pair in _pairs(arrow, file, columns, pictures, store, bad)]
    return Data(pairs)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise TrainingError(
            "Parquet files need pyarrow, which is not installed: pip install 'siglip[train]'"
        ) from None
    return pyarrow


def _pairs(
    arrow: Any, path: Path, columns: tuple[str, str], pictures: BinaryIO, store: Path, bad: Bad
) -> Iterator[Pair]:
    image_column, text_column = columns
    try:
        with arrow.parquet.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                held = ", ".join(file.schema_arrow.names)
                raise TrainingError(f"{path} has no column {missing[0]}, only {held}")
            number = 0
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    name = f"{path.name}:{number}"
                    yield from _pair(name, row[image_column], row[text_column], path, pictures, store, bad)
    except (arrow.ArrowException, OSError, ValueError) as error:  # ValueError: text that is no UTF-8
        raise TrainingError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _pair(
    name: str, image: Any, text: Any, path: Path, pictures: BinaryIO, store: Path, bad: Bad
) -> Iterator[Pair]:
    data, place = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    if isinstance(data, bytes):
        start = pictures.tell()
        pictures.write(data)
        yield from usable(name, store, text, bad, start, len(data))
        return
    if not isinstance(place, str):
        bad.add(name, "its image is neither bytes nor a path")
    elif Path(place).is_absolute() or ".." in Path(place).parts:
        bad.add(name, f"the image's path {place!r} leads out of the folder")
    elif not (path.parent / place).is_file():
        bad.add(name, f"there is no file {place!r}")
    else:
        yield from usable(name, path.parent / place, text, bad)
