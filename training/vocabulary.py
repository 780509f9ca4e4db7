"""Trains the demo checkpoint's SentencePiece vocabulary on captions and some English prose."""

import io
import re
from pathlib import Path
from pydoc_data.topics import topics  # the standard library's own English
from random import Random

import sentencepiece

from training.captions import STRANGERS, altered, random_claim, words
from training.scenes import random_scene

PIECES = 1000


def train_vocabulary(file: Path, captions: int = 40_000) -> None:
    """Ids as in the published checkpoints: `</s>` is 1 and pads too, `<unk>` is 2, no start."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*caption_lines(captions), *prose_lines()]),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        normalization_rule_name="nmt_nfkc",
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        num_threads=1,
        minloglevel=2,
    )
    file.write_bytes(model.getvalue())


def caption_lines(count: int) -> list[str]:
    rng = Random("vocabulary")
    scenes = [random_scene(rng) for _ in range(count)]
    claims = [random_claim(rng, scene) for scene in scenes]
    changed = [altered(rng, claim) for claim in claims[: count // 4]]
    return [plain(words(rng, claim)) for claim in claims + changed] + list(STRANGERS)


def prose_lines() -> list[str]:
    lines = (plain(line) for text in topics.values() for line in text.splitlines())
    return [line for line in lines if line]


def plain(text: str) -> str:
    """Lower case letters, digits and single spaces: all that is left of ASCII after cleaning."""
    return " ".join(re.findall("[a-z0-9]+", text.lower()))
