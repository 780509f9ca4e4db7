"""What a fine-tuning run is told. Defaults, limits and help lines stand in the command's settings."""

import math
from dataclasses import dataclass
from pathlib import Path


class TrainingError(Exception):
    """A run cannot start or go on. The message is one line that says what to do."""


class Interrupted(Exception):
    """The run was told to stop and has saved itself. The message is one line."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    checkpoint: str
    data: tuple[Path, ...]
    out: Path
    eval_data: Path | None
    epochs: int | None
    steps: int | None
    """Exactly one of `epochs` and `steps`, or neither: one epoch."""
    batch_size: int
    """Pairs of one step over all processes."""
    learning_rate: float
    weight_decay: float
    warm_up_steps: int | None
    """None: a tenth of all steps, at most 1000."""
    max_grad_norm: float
    frozen: str
    """"none", or tower names with a comma between."""
    precision: str
    seed: int
    template: str
    """Makes a caption of a folder's name, where folders are class labels."""
    image_column: str
    text_column: str
    max_bad_pairs: int
    eval_every_steps: int
    save_every_steps: int
    workers: int
    device: str
    attention: str
    gradient_checkpointing: bool
    resume: bool

    @property
    def frozen_towers(self) -> tuple[str, ...]:
        return () if self.frozen == "none" else tuple(self.frozen.split(","))

    def total_steps(self, pairs: int) -> int:
        """Of the whole run; a last batch of an epoch that is not full is left out. Raises TrainingError."""
        if self.epochs is not None and self.steps is not None:
            raise TrainingError(f"--epochs is {self.epochs} and --steps is {self.steps}: give one of them")
        if pairs < self.batch_size:
            raise TrainingError(f"--batch-size is {self.batch_size} and the data has {pairs} usable pairs")
        return self.steps or (self.epochs or 1) * (pairs // self.batch_size)

    def warm_up(self, total_steps: int) -> int:
        """Raises TrainingError."""
        if self.warm_up_steps is None:
            return min(1000, total_steps // 10)
        if self.warm_up_steps >= total_steps:
            raise TrainingError(f"--warm-up-steps is {self.warm_up_steps}, of {total_steps} steps in all")
        return self.warm_up_steps

    def local_batch_size(self, world: int) -> int:
        """Raises TrainingError."""
        if self.batch_size % world:
            raise TrainingError(
                f"--batch-size is {self.batch_size}: {world} processes cannot share it equally"
            )
        return self.batch_size // world

    def rate(self, step: int, total_steps: int) -> float:
        """Learning rate of a step, counted from 0: linear warm-up, then half a cosine down to zero."""
        warm_up = self.warm_up(total_steps)
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        progress = (step - warm_up) / (total_steps - warm_up)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def deciding(self) -> dict[str, str]:
        """The settings that decide every number: a resumed run must have the same."""
        names = (
            *("checkpoint", "epochs", "steps", "batch_size", "learning_rate", "weight_decay"),
            *("warm_up_steps", "max_grad_norm", "frozen", "precision", "seed", "template"),
        )
        return {name: str(getattr(self, name)) for name in names}
