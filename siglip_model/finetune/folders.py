"""Reads a folder of pictures: a table of captions, text files beside the pictures, or folders as labels."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from siglip_model.finetune.pairs import Bad, Data, Pair
from siglip_model.finetune.recipe import TrainingError
from siglip_model.scoring import fill

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
TABLES = ("metadata.jsonl", "metadata.csv", "captions.csv")
Row = tuple[str, Any]  # where it stands, and what it holds


def read_folder(folder: Path, template: str, bad: Bad) -> Data:
    """A table wins over text files, and these over folder names. Raises TrainingError."""
    for table in TABLES:
        if (folder / table).is_file():
            return Data(list(_table_pairs(folder, folder / table, bad)))
    files = sorted(_files(folder))
    pictures = [file for file in files if file.suffix.lower() in EXTENSIONS]
    if not pictures:
        raise TrainingError(
            f"{folder} holds no picture ({' '.join(sorted(EXTENSIONS))}) and no .parquet file"
        )
    texts = {file.with_suffix("") for file in files if file.suffix == ".txt"}
    if any(picture.with_suffix("") in texts for picture in pictures):
        return Data(list(_captioned(folder, pictures, bad)))
    return _labelled(folder, pictures, template, bad)


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            if not name.startswith("."):
                yield Path(where, name)


def _captioned(folder: Path, pictures: list[Path], bad: Bad) -> Iterator[Pair]:
    for picture in pictures:
        name = str(picture.relative_to(folder))
        try:
            text = picture.with_suffix(".txt").read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            bad.add(name, "has no .txt file of the same name")
        except (OSError, UnicodeDecodeError) as error:
            bad.add(name, f"its .txt file cannot be read: {error}")
        else:
            yield from usable(name, picture, text, bad)


def _labelled(folder: Path, pictures: list[Path], template: str, bad: Bad) -> Data:
    pairs = []
    for picture in pictures:
        name = picture.relative_to(folder)
        if len(name.parts) == 1:
            bad.add(str(name), "has neither a caption nor a folder that is its label")
        else:
            label = name.parts[0].replace("_", " ")
            pairs.append(Pair(str(name), picture, (fill(template, label),), label))
    return Data(pairs, tuple(sorted({pair.label for pair in pairs if pair.label is not None})))


def _table_pairs(folder: Path, table: Path, bad: Bad) -> Iterator[Pair]:
    for place, row in _rows(table):
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or "text" not in row:
            bad.add(place, "needs file_name and text")
            continue
        file = Path(row["file_name"])
        if file.is_absolute() or ".." in file.parts:
            bad.add(place, f"file_name {row['file_name']!r} leads out of the folder")
        elif not (folder / file).is_file():
            bad.add(place, f"there is no file {row['file_name']!r}")
        else:
            yield from usable(f"{place} {file}", folder / file, row["text"], bad)


def _rows(table: Path) -> Iterator[Row]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            if table.suffix == ".jsonl":
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield f"{table.name}:{number}", _json(line)
            else:
                reader = csv.DictReader(lines)
                for row in reader:
                    yield f"{table.name}:{reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{table} cannot be read: {error}") from None


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def usable(
    name: str, file: Path, text: Any, bad: Bad, start: int = 0, size: int | None = None
) -> Iterator[Pair]:
    """The pair of a picture and its caption or list of captions, unless these are no text."""
    captions = [text] if isinstance(text, str) else text
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        bad.add(name, "its text is neither a string nor a list of strings")
        return
    kept = tuple(caption.strip() for caption in captions if caption.strip())
    if not kept:
        bad.add(name, "its text is empty")
        return
    yield Pair(name, file, kept, None, start, size)
