"""Batches of scenes, captions and their truth, drawn in spawned worker processes.

Spawned, because a forked process inherits the locks of torch's threads and may wait on them for
ever. Batch i is a function of (seed, i), whichever process draws it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from siglip_model.tokenizer import SiglipTokenizer
from training.captions import Claim, altered, drill, random_claim, truth, words
from training.scenes import COLOURS, SEEN, Scene, photograph, pixels, random_scene

TEXT_LENGTH = 64
ALTERED = 0.22  # of the captions have one thing changed


@dataclass
class Batch:
    pixels: Tensor  # uint8 [scenes, 3, 64, 64]
    input_ids: Tensor  # [captions, 64]
    targets: Tensor  # bool [scenes, captions]


class Batches(Dataset[Batch]):
    def __init__(self, tokenizer: Path, seed: str, count: int, scenes: int, captions: int) -> None:
        self.tokenizer_file = tokenizer
        self.tokenizer: SiglipTokenizer | None = None  # opened in the process that uses it
        self.seed, self.count, self.scenes, self.captions = seed, count, scenes, captions

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        self.tokenizer = self.tokenizer or SiglipTokenizer(self.tokenizer_file)
        rng = Random(f"{self.seed}/{index}")
        pairs = palette(rng)
        scenes = [random_scene(rng, pairs) for _ in range(self.scenes)]
        said = captions_of(rng, scenes[: self.captions])
        ids, _ = self.tokenizer.encode_batch(list(said), TEXT_LENGTH)
        return Batch(
            image_tensor(scenes),
            torch.from_numpy(ids).long(),
            torch.from_numpy(truth(scenes, list(said.values()))),
        )


def palette(rng: Random) -> list[tuple[str, str]]:
    """The coloured shapes of a batch: half of the time of two colours, so that shape must tell."""
    colours = rng.sample(list(COLOURS), 2) if rng.random() < 0.5 else COLOURS
    return [pair for pair in SEEN if pair[0] in colours]


def captions_of(rng: Random, scenes: list[Scene]) -> dict[str, Claim]:
    """One caption for each scene, some of them altered, and the drill; equal ones once."""
    claims = [random_claim(rng, scene) for scene in scenes]
    claims = [altered(rng, claim) if rng.random() < ALTERED else claim for claim in claims]
    return {words(rng, claim): claim for claim in claims + drill(rng)}


def image_tensor(scenes: Iterable[Scene]) -> Tensor:
    """uint8 [scenes, 3, 64, 64]"""
    images = np.stack([pixels(photograph(scene)) for scene in scenes])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def normalized(images: Tensor) -> Tensor:
    """uint8 -> [-1, 1], as the image processor does."""
    return images.float() / 127.5 - 1


def stream(batches: Batches, workers: int = 1) -> DataLoader[Batch]:
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn",
        prefetch_factor=4,
    )
