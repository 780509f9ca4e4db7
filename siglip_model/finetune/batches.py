"""Batches of a run: batch i of a process is a function of the seed, i and the process's rank alone.

So a resumed run continues with the batch that an uninterrupted one would have had next, and worker
processes can make batches in any order.
"""

import hashlib
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from siglip_model.finetune.pairs import Pair
from siglip_model.finetune.recipe import TrainingError
from siglip_model.image_decoding import ImageError, ImageLimits, open_image
from siglip_model.processor import SiglipProcessor

LIMITS = ImageLimits()


@dataclass
class Batch:
    pixel_values: Tensor  # float32 [n, 3, H, W]
    input_ids: Tensor  # int64 [n, text length], always padded
    same: Tensor  # int64 [n, 2]: hashes of picture and of caption
    bad: dict[str, str] = field(default_factory=dict)  # pairs that others took the place of, and why

    def __len__(self) -> int:
        return len(self.input_ids)


class Maker:
    """Reads pictures and captions with the checkpoint's own processor."""

    def __init__(
        self, processor: SiglipProcessor, text_length: int, pairs: Sequence[Pair], most_bad: int
    ) -> None:
        self.processor, self.text_length = processor, text_length
        self.pairs, self.most_bad = pairs, most_bad

    def make(self, indices: Sequence[int], rng: Random | None = None) -> Batch:
        """One caption of several is drawn, or without `rng` it is the first.

        A pair whose picture cannot be read is replaced by the next one. Raises TrainingError.
        """
        bad: dict[str, str] = {}
        found = [self._readable(index, bad) for index in indices]
        captions = [rng.choice(pair.captions) if rng else pair.captions[0] for pair, _, _ in found]
        ids, _ = self.processor.tokenizer.encode_batch(captions, self.text_length)
        same = [[digest, _hash(row.tobytes())] for (_, _, digest), row in zip(found, ids, strict=True)]
        return Batch(
            torch.from_numpy(np.stack([pixels for _, pixels, _ in found])),
            torch.from_numpy(ids).long(),
            torch.tensor(same),
            bad,
        )

    def tried(self, indices: Sequence[int], rng: Random | None = None) -> "Batch | TrainingError":
        """The error is a value, which comes from another process without that one's traceback."""
        try:
            return self.make(indices, rng)
        except TrainingError as error:
            return error

    def _readable(self, index: int, bad: dict[str, str]) -> tuple[Pair, np.ndarray, int]:
        for number in range(min(len(self.pairs), self.most_bad + 1)):
            pair = self.pairs[(index + number) % len(self.pairs)]
            try:
                data = pair.read(LIMITS.max_bytes)
                image = open_image(data, LIMITS)
            except (ImageError, OSError) as error:
                bad[pair.name] = str(error)
            else:
                return pair, self.processor.image_processor(image)["pixel_values"][0], _hash(data)
        named = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:5])
        raise TrainingError(f"{len(bad)} pictures in a row cannot be used: {named}")


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


class TrainingBatches(Dataset["Batch | TrainingError"]):
    """This process's part of every step's batch."""

    def __init__(self, maker: Maker, seed: int, batch_size: int, rank: int, world: int) -> None:
        self.maker, self.seed, self.batch_size = maker, seed, batch_size
        self.rank, self.world = rank, world
        self._order: tuple[int, Tensor] | None = None

    def __getitem__(self, step: int) -> "Batch | TrainingError":
        steps = len(self.maker.pairs) // self.batch_size
        epoch, place = divmod(step, steps)
        size = self.batch_size // self.world
        first = place * self.batch_size + self.rank * size
        indices = self._shuffled(epoch)[first : first + size].tolist()
        return self.maker.tried(indices, Random(f"{self.seed}/{step}/{first}"))

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = epoch, torch.randperm(len(self.maker.pairs), generator=draw)
        return self._order[1]


class InOrder(Dataset["Batch | TrainingError"]):
    """All pairs in their order, for evaluation; of several captions the first."""

    def __init__(self, maker: Maker, batch_size: int) -> None:
        self.maker, self.batch_size = maker, batch_size

    def __getitem__(self, index: int) -> "Batch | TrainingError":
        first = index * self.batch_size
        count = min(self.batch_size, len(self.maker.pairs) - first)
        return self.maker.tried(range(first, first + count))


@contextmanager
def stream(
    batches: "Dataset[Batch | TrainingError]", indices: Sequence[int], workers: int
) -> Iterator[Iterator[Batch]]:
    """Spawned, because a forked process inherits the locks of torch's threads."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_ignore_signals if workers else None,
    )
    made: Any = iter(loader)
    try:
        yield map(_raised, made)
    finally:
        if workers:
            # An error's traceback keeps the iterator alive, and so its processes, which ignore SIGTERM:
            # the interpreter would wait for them for ever.
            made._shutdown_workers()


def _raised(made: "Batch | TrainingError") -> Batch:
    if isinstance(made, TrainingError):
        raise made
    return made


def _ignore_signals(worker: int) -> None:
    """They reach the whole process group, and it is the training process that decides."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def group_numbers(same: Tensor) -> Tensor:
    """Hashes of picture and caption [n, 2] -> group [n], one where pairs share either, also by a chain."""
    parents = list(range(len(same)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first_with: dict[tuple[int, int], int] = {}
    for index, hashes in enumerate(same.tolist()):
        for kind, value in enumerate(hashes):
            other = first_with.setdefault((kind, value), index)
            parents[root(index)] = root(other)
    return torch.tensor([root(index) for index in range(len(same))])
