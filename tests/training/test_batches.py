"""Batches are the same wherever they are drawn, and their targets are the truth of their captions."""

import multiprocessing
from pathlib import Path
from random import Random

import torch

from siglip_model import SiglipTokenizer
from training.batches import Batches, palette, stream
from training.scenes import SEEN
from training.vocabulary import PIECES


def test_a_spawned_process_draws_the_same_batches(vocabulary: Path) -> None:
    batches = Batches(vocabulary, "test", count=2, scenes=8, captions=4)
    for index, batch in enumerate(stream(batches)):
        here = batches[index]
        assert torch.equal(batch.pixels, here.pixels)
        assert torch.equal(batch.input_ids, here.input_ids)
        assert torch.equal(batch.targets, here.targets)
    assert not torch.equal(batches[0].pixels, batches[1].pixels)
    assert not multiprocessing.active_children()


def test_shapes_of_a_batch(vocabulary: Path) -> None:
    batch = Batches(vocabulary, "test", count=1, scenes=64, captions=48)[0]
    assert batch.pixels.shape == (64, 3, 64, 64)
    assert batch.pixels.dtype == torch.uint8
    assert batch.input_ids.shape == (batch.targets.shape[1], 64)
    assert 40 < len(batch.input_ids) <= 48 + 20
    assert batch.targets.dtype == torch.bool


def test_a_palette_is_two_colours_or_all() -> None:
    palettes = [palette(Random(seed)) for seed in range(40)]
    assert {len({colour for colour, _ in pairs}) for pairs in palettes} == {2, 8}
    assert all(set(pairs) <= set(SEEN) for pairs in palettes)


def test_vocabulary_has_the_ids_of_the_published_checkpoints(vocabulary: Path) -> None:
    tokenizer = SiglipTokenizer(vocabulary)
    assert tokenizer.vocab_size == PIECES
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]
    ids, truncated = tokenizer.encode_batch(["A red circle!", "a red circle"], 64)
    assert (ids[0] == ids[1]).all()
    assert not truncated.any()
    assert ids[0, -1] == 1
    assert 2 not in tokenizer.encode("2 cyan crosses, 3 hoops and 4 tiny stars")
