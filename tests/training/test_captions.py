"""Captions say what is true, and the truth of any caption about any scene is exact."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from training.captions import (
    AT_LEAST_ONE,
    RELATIONS,
    Claim,
    Kind,
    altered,
    drill,
    places,
    random_claim,
    related,
    truth,
    words,
)
from training.scenes import COLOURS, HELD_OUT, SHAPES, Scene, Thing, random_scene


def scene(*things: Thing, background: str = "white") -> Scene:
    return Scene(things, background, 100, 100, "")


def thing(colour: str, shape: str, x: float = 0.5, y: float = 0.5, size: str = "small") -> Thing:
    return Thing(colour, shape, size, 0.2, x, y, 0.0)


RED_CIRCLE = thing("red", "circle", x=0.2)
BLUE_SQUARE = thing("blue", "square", x=0.8)
ONE = scene(RED_CIRCLE)
THREE = scene(RED_CIRCLE, thing("red", "circle"), thing("red", "circle", x=0.8), background="black")
TWO = scene(RED_CIRCLE, BLUE_SQUARE)

# A claim, and whether it is true of ONE, THREE and TWO.
JUDGED: list[tuple[Claim, tuple[bool, bool, bool]]] = [
    (Claim(Kind("red", "circle")), (True, False, True)),
    (Claim(Kind("red", "circle"), 3), (False, True, False)),
    (Claim(Kind("red")), (True, False, True)),
    (Claim(Kind("red"), AT_LEAST_ONE), (True, True, True)),
    (Claim(Kind("blue"), AT_LEAST_ONE), (False, False, True)),
    (Claim(Kind(shape="square"), AT_LEAST_ONE), (False, False, True)),
    (Claim(Kind(shape="circle")), (True, False, True)),
    (Claim(Kind(), 2), (False, False, True)),
    (Claim(Kind(), 3), (False, True, False)),
    (Claim(Kind("red", "square")), (False, False, False)),
    (Claim(Kind("red", "circle", size="small")), (True, False, True)),
    (Claim(Kind("red", "circle", size="large")), (False, False, False)),
    (Claim(Kind("red", "circle", place="on the left")), (True, True, True)),
    (Claim(Kind("red", "circle", place="on the right")), (False, True, False)),
    (Claim(Kind("red", "circle", place="in the middle")), (False, True, False)),
    (Claim(background="black"), (False, True, False)),
    (Claim(Kind("red", "circle"), background="white"), (True, False, True)),
    (Claim(Kind("red"), other=Kind("blue")), (False, False, True)),
    (Claim(Kind("red"), other=Kind("blue"), relation="left"), (False, False, True)),
    (Claim(Kind("red"), other=Kind("blue"), relation="right"), (False, False, False)),
    (Claim(Kind("blue"), other=Kind("red"), relation="right"), (False, False, True)),
    (Claim(Kind("red"), other=Kind("blue"), relation="above"), (False, False, False)),
    (Claim(stranger="dog"), (False, False, False)),
]


@pytest.mark.parametrize(("claim", "expected"), JUDGED, ids=lambda value: str(value)[:60])
def test_truth(claim: Claim, expected: tuple[bool, bool, bool]) -> None:
    assert truth([ONE, THREE, TWO], [claim])[:, 0].tolist() == list(expected)


def drawn(count: int) -> list[Scene]:
    rng = Random("captions")
    return [random_scene(rng) for _ in range(count)]


def test_a_caption_is_true_of_its_scene() -> None:
    rng, scenes = Random(0), drawn(2000)
    claims = [random_claim(rng, scene) for scene in scenes]
    assert all(truth([scene], [claim]).item() for scene, claim in zip(scenes, claims, strict=True))


def test_truth_of_a_batch_is_that_of_its_pairs() -> None:
    rng, scenes = Random(1), drawn(40)
    claims = [random_claim(rng, scene) for scene in scenes]
    table = truth(scenes, claims)
    pairs = [[truth([scene], [claim]).item() for claim in claims] for scene in scenes]
    assert np.array_equal(table, pairs)
    assert 0.02 < table.mean() < 0.2


def test_an_altered_caption_is_seldom_true() -> None:
    rng, scenes = Random(2), drawn(1000)
    claims = [altered(rng, random_claim(rng, scene)) for scene in scenes]
    still = [truth([scene], [claim]).item() for scene, claim in zip(scenes, claims, strict=True)]
    assert np.mean(still) < 0.1


def test_the_drill_asks_every_scene_for_its_shape_and_its_number() -> None:
    table = truth(drawn(300), drill(Random(4)))
    alike = [len({(thing.colour, thing.shape) for thing in scene.things}) == 1 for scene in drawn(300)]
    assert (table[:, -4:].sum(axis=1) == 1).all()  # one shape, two, three or four
    assert (table[alike, :8].sum(axis=1) <= 1).all()
    assert table[:, :16].any(axis=0).all()


def test_relations_and_places_agree_with_the_arrays() -> None:
    for scene in drawn(500):
        first, *others = scene.things
        for name in places(first) if not others else ():
            assert truth([scene], [Claim(Kind(place=name))]).item()
        for other in others if first.colour != scene.things[-1].colour else ():
            for name in RELATIONS:
                claim = Claim(Kind(first.colour), other=Kind(other.colour), relation=name)
                assert truth([scene], [claim]).item() == related(name, first, other)


@pytest.mark.parametrize("change", [lambda rng, claim: claim, altered])
def test_no_caption_names_a_held_out_pair(change: Callable[[Random, Claim], Claim]) -> None:
    rng = Random(3)
    for scene in drawn(3000):
        claim = change(rng, random_claim(rng, scene))
        assert not any(kind.held_out() for kind in (claim.kind, claim.other) if kind)
        said = {word.rstrip(".s") for word in words(rng, claim).lower().split()}
        assert claim.other is not None or not any({*pair} <= said for pair in HELD_OUT)


def test_words_name_what_is_claimed() -> None:
    texts = {words(Random(seed), Claim(Kind("red", "circle"))).lower() for seed in range(300)}
    assert {"a red circle", "red circle", "this is a photo of a red circle."} <= texts
    plural = {words(Random(seed), Claim(Kind("green", "cross"), 3)).lower() for seed in range(300)}
    assert {"three green crosses", "3 green crosses"} <= plural
    assert "something red" in {words(Random(s), Claim(Kind("red"), AT_LEAST_ONE)) for s in range(9)}
    some = Claim(Kind(shape="star"), AT_LEAST_ONE)
    assert "at least one star" in {words(Random(seed), some).lower() for seed in range(30)}
    for seed, colour in enumerate(COLOURS):
        claim = Claim(Kind(colour, SHAPES[seed]), other=Kind("red", "circle"), relation="above")
        text = words(Random(seed), claim)
        assert "above" in text or "over" in text
