"""Scores the demo checkpoint on fresh scenes: `python -m training.eval_demo`."""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

import torch
from torch import Tensor

from siglip_model import SiglipModel, SiglipTokenizer
from siglip_model.modeling import unit
from training.batches import TEXT_LENGTH, image_tensor, normalized
from training.captions import random_claim, truth, words
from training.scenes import HELD_OUT, PAIRS, SEEN, random_scene, scene_of

CHECKPOINT = Path("checkpoints/shapes")
FRESH_SCENES = 2048  # of each test
IMAGES_AT_ONCE = 256
COUNTS = ("one", "two", "three", "four")


@dataclass(frozen=True)
class Score:
    name: str
    value: float
    bar: float | None
    at_most: bool = False

    def met(self) -> bool:
        if self.bar is None:
            return True
        return self.value <= self.bar if self.at_most else self.value >= self.bar


@dataclass(frozen=True)
class Judge:
    """A model with its tokenizer: pictures and texts in, logits out."""

    model: SiglipModel
    tokenizer: SiglipTokenizer

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        return cls(SiglipModel.from_pretrained(folder), SiglipTokenizer.from_pretrained(folder))

    @torch.inference_mode()
    def logits(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """[images, texts]"""
        ids, _ = self.tokenizer.encode_batch(texts, TEXT_LENGTH)
        rows = self.model.get_text_features(torch.from_numpy(ids).long())
        starts = range(0, len(images), IMAGES_AT_ONCE)
        parts = [normalized(images[start : start + IMAGES_AT_ONCE]) for start in starts]
        columns = torch.cat([self.model.get_image_features(part) for part in parts])
        return self.model.logits(unit(columns), unit(rows))


def scores(judge: Judge, scenes: int, seed: str) -> list[Score]:
    """`scenes` for each of the tests; the seed must not be one of training."""
    pairs = [PAIRS[i % len(PAIRS)] for i in range(scenes)]
    seen = [SEEN[i % len(SEEN)] for i in range(scenes)]
    held_out = [sorted(HELD_OUT)[i % len(HELD_OUT)] for i in range(scenes)]
    true, false = caption_probabilities(judge, scenes, f"{seed}/captions")
    return [
        Score("64-way, all pairs, top-1", zero_shot(judge, pairs, f"{seed}/all"), 0.90),
        Score("64-way, trained pairs, top-1", zero_shot(judge, seen, f"{seed}/seen"), 0.90),
        Score("64-way, pairs never trained, top-1", zero_shot(judge, held_out, f"{seed}/new"), 0.60),
        Score("counting one to four, top-1", counting(judge, scenes, f"{seed}/count"), 0.85),
        Score("true caption, median probability", statistics.median(true), 0.50),
        Score("false caption, median probability", statistics.median(false), 0.02, at_most=True),
        Score("colours of two things not swapped, of 2", binding(judge, scenes, f"{seed}/two"), None),
    ]


def zero_shot(judge: Judge, pairs: Sequence[tuple[str, str]], seed: str) -> float:
    """How often the right one of all 64 labels gets the highest probability."""
    rng = Random(seed)
    images = image_tensor(scene_of(rng, [pair]) for pair in pairs)
    labels = [f"This is a photo of {article(colour)} {shape}." for colour, shape in PAIRS]
    best = judge.logits(images, labels).argmax(dim=1)
    return share_equal(best, [PAIRS.index(pair) for pair in pairs])


def counting(judge: Judge, scenes: int, seed: str) -> float:
    """One to four things of a known kind: how often the right number wins."""
    rng = Random(seed)
    pairs, counts = [rng.choice(SEEN) for _ in range(scenes)], [i % 4 for i in range(scenes)]
    images = image_tensor(
        scene_of(rng, [pair] * (count + 1)) for pair, count in zip(pairs, counts, strict=True)
    )
    texts = [f"This is a photo of {number(i, *pair)}." for pair in SEEN for i in range(4)]
    table = judge.logits(images, texts).view(scenes, len(SEEN), 4)
    rows = torch.tensor([SEEN.index(pair) for pair in pairs])
    best = table[torch.arange(scenes), rows].argmax(dim=1)
    return share_equal(best, counts)


def binding(judge: Judge, scenes: int, seed: str) -> float:
    """Two things that differ in both: how often their caption beats the one with the colours swapped."""
    rng, right = Random(seed), 0
    for _ in range(scenes):
        (a, b), (c, d) = swappable(rng)
        texts = [f"{article(a)} {b} and {article(c)} {d}", f"{article(c)} {b} and {article(a)} {d}"]
        true, swapped = judge.logits(image_tensor([scene_of(rng, [(a, b), (c, d)])]), texts)[0].tolist()
        right += true > swapped
    return right / scenes


def swappable(rng: Random) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two trained pairs that are trained pairs with their colours swapped, too."""
    while True:
        (a, b), (c, d) = rng.sample(SEEN, 2)
        if a != c and b != d and not {(a, d), (c, b)} & HELD_OUT:
            return (a, b), (c, d)


def share_equal(best: Tensor, right: list[int]) -> float:
    return sum(map(int.__eq__, best.tolist(), right)) / len(right)


def caption_probabilities(judge: Judge, scenes: int, seed: str) -> tuple[list[float], list[float]]:
    """Of each scene's own caption, and of every other caption that is false of it."""
    rng = Random(seed)
    drawn = [random_scene(rng) for _ in range(scenes)]
    claims = [random_claim(rng, scene) for scene in drawn]
    logits = judge.logits(image_tensor(drawn), [words(rng, claim) for claim in claims])
    probabilities, right = logits.sigmoid(), torch.from_numpy(truth(drawn, claims))
    return probabilities.diagonal().tolist(), probabilities[~right].tolist()


def article(colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}"


def number(index: int, colour: str, shape: str) -> str:
    plural = "" if index == 0 else "es" if shape.endswith("s") else "s"
    return f"{COUNTS[index]} {colour} {shape}{plural}"


def table(found: Sequence[Score]) -> str:
    lines = ["| test | score | bar | met |", "|---|---|---|---|"]
    for score in found:
        lines.append(f"| {score.name} | {score.value:.3g} | {verdict(score)} |")
    return "\n".join(lines)


def verdict(score: Score) -> str:
    """The columns bar and met."""
    if score.bar is None:
        return "none | "
    return f"{'<=' if score.at_most else '>='} {score.bar:.2f} | {'yes' if score.met() else 'no'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--scenes", type=int, default=FRESH_SCENES, help="of each test")
    parser.add_argument("--seed", default="fresh", help="any but 'train'")
    given = parser.parse_args()
    print(table(scores(Judge.of_folder(given.checkpoint), given.scenes, given.seed)))


if __name__ == "__main__":
    main()
