"""The result folder: a checkpoint that every tool reads, and the state to continue from."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from siglip_model.finetune.recipe import Recipe, TrainingError
from siglip_model.modeling import SiglipModel
from siglip_model.processor import SiglipProcessor

STATE = "training_state.pt"
PARTIAL = ".partial"


@contextmanager
def failure_told(folder: Path) -> Iterator[None]:
    """A full disk, say, becomes a TrainingError; what was saved before is still whole."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        (folder / (STATE + PARTIAL)).unlink(missing_ok=True)
        free_mib = shutil.disk_usage(folder).free >> 20
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"cannot save in {folder}, where {free_mib} MiB are free: {reason}") from None


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Written beside and then put in place: a reader finds the old state or the new one, whole."""
    partial = folder / (STATE + PARTIAL)
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / STATE)


def load_state(folder: Path, recipe: Recipe, data_digest: str, world: int) -> dict[str, Any] | None:
    """None where nothing was saved yet. Raises TrainingError for the state of another run."""
    if not (folder / STATE).is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes make torch raise
        raise TrainingError(f"{folder / STATE} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(state, dict) or not state.keys() >= {"done", "model", "optimizer", "recipe"}:
        raise TrainingError(f"{folder / STATE} is not the state of a run")
    for name, value in recipe.deciding().items():
        if (before := state["recipe"].get(name)) != value:
            flag = name.replace("_", "-")
            raise TrainingError(
                f"--resume: {flag} was {before} and is {value} now; the run must stay the same"
            )
    if state["world"] != world:
        raise TrainingError(f"--resume: the run began with {state['world']} processes, not with {world}")
    if state["data"] != data_digest:
        raise TrainingError("--resume: the data is not what the run began with")
    return state


def save_checkpoint(folder: Path, model: SiglipModel, processor: SiglipProcessor) -> None:
    """Model and processor files, each put in place whole."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    processor.save_pretrained(partial)
    written = sorted(partial.iterdir())
    for file in written:
        file.replace(folder / file.name)
    stale = {file.name for file in folder.glob("model*.safetensors*")} - {file.name for file in written}
    for name in stale:
        (folder / name).unlink()
    partial.rmdir()


def prepare(recipe: Recipe) -> None:
    """Makes the result folder, which must be new, empty, or with --resume a run's. Raises TrainingError."""
    folder = recipe.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise TrainingError(f"--out {folder}: {error.strerror}") from None
    if held and not recipe.resume:
        raise TrainingError(f"--out {folder} is not empty: choose another folder, or continue with --resume")
