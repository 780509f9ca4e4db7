"""From what the user named to pairs: a folder of pictures, Parquet files, or a folder of these."""

from collections.abc import Sequence
from pathlib import Path

from siglip_model.finetune.folders import read_folder
from siglip_model.finetune.pairs import Bad, Data
from siglip_model.finetune.parquet import read_parquet
from siglip_model.finetune.recipe import Recipe, TrainingError


def read_data(paths: Sequence[Path], recipe: Recipe, store: Path, bad: Bad) -> Data:
    """`store` is a file to make for the pictures of Parquet files. Raises TrainingError."""
    for path in paths:
        if not path.exists():
            raise TrainingError(f"there is no file or folder {path}")
    data = _read(paths, recipe, store, bad)
    bad.check()
    if not data.pairs:
        raise TrainingError(f"{paths[0]} holds no usable pair of picture and text")
    return data


def _read(paths: Sequence[Path], recipe: Recipe, store: Path, bad: Bad) -> Data:
    files = [path for path in paths if not path.is_dir()]
    if not files and len(paths) == 1:
        files = sorted(path for path in paths[0].glob("**/*.parquet") if path.is_file())
        if not files:
            return read_folder(paths[0], recipe.template, bad)
    elif len(files) < len(paths):
        raise TrainingError("give one folder, or one or several .parquet files")
    for file in files:
        if file.suffix != ".parquet":
            raise TrainingError(f"{file} is neither a folder nor a .parquet file")
    return read_parquet(files, (recipe.image_column, recipe.text_column), store, bad)
