"""English captions of scenes, and the exact truth of any caption about any scene.

A caption is first a `Claim`: how many things of which kind there are, how they lie, what is behind
them. `words` says a claim in one of many ways. `truth` judges every claim against every scene, so
training knows for each pair of picture and text in a batch whether the text is true of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import numpy.typing as npt

from training.scenes import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES, Scene, Thing

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

PLACES = ("on the left", "on the right", "at the top", "at the bottom", "in the middle")
EDGE = 0.38  # left of it is the left, right of 1 - EDGE is the right; between them the middle
STEP = 0.15  # a thing lies left of another when their centres are this far apart
RELATIONS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
MOST = 4  # things in a scene
AT_LEAST_ONE = 0  # the count of "something red" and "at least one star"


@dataclass(frozen=True)
class Kind:
    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    place: str | None = None

    def held_out(self) -> bool:
        return (self.colour, self.shape) in HELD_OUT


@dataclass(frozen=True)
class Claim:
    """There are exactly `count` things of `kind`; with `other`, one of each, in that relation."""

    kind: Kind | None = None
    count: int = 1
    other: Kind | None = None
    relation: str | None = None
    background: str | None = None
    # The name of something that is in no scene: never true.
    stranger: str | None = None


# --- what to say about a scene ---


def random_claim(rng: Random, scene: Scene) -> Claim:
    """Something true of the scene."""
    things = list(dict.fromkeys((t.colour, t.shape) for t in scene.things))
    claim = claim_two(rng, scene) if len(things) == 2 else claim_one(rng, scene)
    if rng.random() < 0.12:
        claim = replace(claim, background=scene.background)
    return Claim(background=scene.background) if rng.random() < 0.02 else claim


def claim_one(rng: Random, scene: Scene) -> Claim:
    count, thing = len(scene.things), scene.things[0]
    colour, shape, size = thing.colour, thing.shape, thing.size
    form = rng.choices(("full", "colour", "shape", "any", "some"), (52, 7, 16, 5, 20))[0]
    if form == "some":
        kinds = (Kind(colour), Kind(size=size), Kind(shape=shape), Kind(shape=shape))
        return Claim(rng.choice(kinds), AT_LEAST_ONE)
    kind = Kind(
        colour if form in ("full", "colour") else None,
        shape if form in ("full", "shape") else None,
    )
    if rng.random() < 0.15:
        kind = replace(kind, size=size)
    elif count == 1 and rng.random() < 0.14:
        kind = replace(kind, place=rng.choice(places(thing) or (None,)))
    return Claim(kind, count)


def claim_two(rng: Random, scene: Scene) -> Claim:
    a, b = rng.sample(scene.things, 2)
    first, second = random_kind(rng, a), random_kind(rng, b)
    form = rng.choices(("relation", "and", "first", "any", "some"), (45, 20, 20, 7, 8))[0]
    if form == "first":
        return Claim(first, sum(fits(first, thing) for thing in scene.things))
    if form == "any":
        return Claim(Kind(), 2)
    if form == "some":
        return Claim(rng.choice((Kind(a.colour), Kind(shape=a.shape))), AT_LEAST_ONE)
    relations = [name for name in RELATIONS if related(name, a, b)]
    if form == "and" or not relations:
        return Claim(first, other=second)
    return Claim(first, other=second, relation=rng.choice(relations))


def random_kind(rng: Random, thing: Thing) -> Kind:
    colour, shape = rng.choices(((1, 1), (1, 0), (0, 1)), (70, 8, 22))[0]
    return Kind(thing.colour if colour else None, thing.shape if shape else None)


def fits(kind: Kind, thing: Thing) -> bool:
    return kind.colour in (None, thing.colour) and kind.shape in (None, thing.shape)


def places(thing: Thing) -> tuple[str, ...]:
    return tuple(place for place in PLACES if at(place, thing.x, thing.y))


def at(place: str, x: float, y: float) -> bool:
    return {
        "on the left": x < EDGE,
        "on the right": x > 1 - EDGE,
        "at the top": y < EDGE,
        "at the bottom": y > 1 - EDGE,
        "in the middle": EDGE <= x <= 1 - EDGE and EDGE <= y <= 1 - EDGE,
    }[place]


def related(relation: str, a: Thing, b: Thing) -> bool:
    return {
        "left": b.x - a.x > STEP,
        "right": a.x - b.x > STEP,
        "above": b.y - a.y > STEP,
        "below": a.y - b.y > STEP,
    }[relation]


# fmt: off
STRANGERS = (
    "dog", "cat", "bird", "fish", "horse", "cow", "sheep", "lion", "tiger", "bear", "elephant", "mouse",
    "car", "bus", "train", "bicycle", "boat", "plane", "house", "tree", "flower", "apple", "banana",
    "cake", "pizza", "chair", "table", "lamp", "book", "phone", "computer", "man", "woman", "child",
    "face", "hand", "mountain", "beach", "river", "road", "city", "bridge", "cloud", "guitar", "ball",
    "bottle", "cup", "shoe", "hat", "clock", "key", "window", "door", "garden", "forest", "hexagon",
    "spiral", "arrow", "letter", "number",
)
# fmt: on


def altered(rng: Random, claim: Claim) -> Claim:
    """The claim with one thing changed, so most likely no longer true of its scene."""
    while True:
        changed = alter(rng, claim)
        kinds = [kind for kind in (changed.kind, changed.other) if kind is not None]
        if changed != claim and not any(kind.held_out() for kind in kinds):
            return changed


def alter(rng: Random, claim: Claim) -> Claim:
    if claim.kind is None or rng.random() < 0.1:
        return Claim(stranger=rng.choice(STRANGERS))
    if claim.relation is not None and rng.random() < 0.6:
        return replace(claim, relation=rng.choice(tuple(RELATIONS)))
    if claim.other is not None and rng.random() < 0.4:
        return replace(claim, kind=claim.other, other=claim.kind)
    if claim.background is not None and rng.random() < 0.3:
        return replace(claim, background=rng.choice(tuple(BACKGROUNDS)))
    if claim.count != AT_LEAST_ONE and claim.other is None and rng.random() < 0.4:
        return replace(claim, count=rng.randint(1, 4))
    return replace(claim, kind=altered_kind(rng, claim.kind))


def altered_kind(rng: Random, kind: Kind) -> Kind:
    part = rng.choice(("colour", "shape", "size", "place"))
    if getattr(kind, part) is None:
        return kind
    if part == "colour":
        return replace(kind, colour=rng.choice(tuple(COLOURS)))
    if part == "shape":
        return replace(kind, shape=rng.choice(SHAPES))
    if part == "size":
        return replace(kind, size=rng.choice(tuple(SIZES)))
    return replace(kind, place=rng.choice(PLACES))


def drill(rng: Random) -> list[Claim]:
    """Every shape alone and in some number, and every number: asked of each scene of a batch.

    Most captions differ from a scene in colour already, which says little about its shapes.
    """
    ones = [Claim(Kind(shape=shape)) for shape in SHAPES]
    several = [Claim(Kind(shape=shape), rng.randint(2, MOST)) for shape in SHAPES]
    return ones + several + [Claim(Kind(), count) for count in range(1, MOST + 1)]


# --- how to say it ---

LEADS = (
    "this is a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "this is a picture of {}",
    "an image of {}",
    "an image showing {}",
    "a drawing of {}",
    "there is {}",
    "i see {}",
    "you can see {}",
    "here we have {}",
    "the picture shows {}",
)
OTHER_WORDS = {
    "large": ("big", "huge"),
    "small": ("little", "tiny"),
    "medium": ("medium sized", "mid sized"),
    "grey": ("gray",),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "circle": ("disc", "dot"),
    "cross": ("plus sign",),
    "crescent": ("moon",),
    "ring": ("hoop",),
}
NUMBERS = {2: ("two", "2", "a pair of"), 3: ("three", "3"), 4: ("four", "4")}


def words(rng: Random, claim: Claim) -> str:
    """The claim in English; half of the time bare, as a label would be."""
    text = statement(rng, claim)
    if rng.random() < 0.5:
        text = (LEADS[0] if rng.random() < 0.3 else rng.choice(LEADS)).format(text)
    return text[0].upper() + text[1:] + "." if rng.random() < 0.3 else text


def statement(rng: Random, claim: Claim) -> str:
    if claim.stranger is not None:
        return rng.choice(("a {}", "{}", "the {}")).format(claim.stranger)
    if claim.kind is None:
        return f"a {synonym(rng, claim.background or '')} background"
    text = kinds(rng, claim, claim.kind)
    if claim.background is not None:
        link = rng.choice(("on a", "on a", "against a", "with a"))
        text += f" {link} {synonym(rng, claim.background)} background"
    return text


def kinds(rng: Random, claim: Claim, kind: Kind) -> str:
    if claim.other is not None:
        relations = RELATIONS[claim.relation] if claim.relation else ("and", "and", "next to")
        first, second = one(rng, kind, bare=False), one(rng, claim.other, bare=False)
        return f"{first} {rng.choice(relations)} {second}"
    if claim.count == AT_LEAST_ONE:
        if kind.shape:
            return f"at least one {noun(rng, kind, 1)}"
        return f"something {synonym(rng, kind.colour or kind.size or '')}"
    return one(rng, kind, bare=True) if claim.count == 1 else many(rng, kind, claim.count)


def one(rng: Random, kind: Kind, bare: bool) -> str:
    """ "a red circle", "one red circle", and where `bare` is allowed, "red circle"."""
    text = noun(rng, kind, 1)
    form = rng.random()
    if form < 0.10:
        text = f"{rng.choice(('one', '1', 'a single'))} {text}"
    elif form < 0.75 or not bare:
        text = f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
    return text if kind.place is None else f"{text} {place_words(rng, kind.place)}"


def many(rng: Random, kind: Kind, count: int) -> str:
    number = rng.choice(NUMBERS[count][:1] * 3 + NUMBERS[count])
    text = f"{number} {noun(rng, kind, count)}"
    return f"exactly {text}" if rng.random() < 0.05 else text


def noun(rng: Random, kind: Kind, count: int) -> str:
    shape = synonym(rng, kind.shape) if kind.shape else rng.choice(("shape", "object", "thing"))
    if count > 1:
        shape += "es" if shape.endswith("s") else "s"
    adjectives = [synonym(rng, word) for word in (kind.size, kind.colour) if word]
    if kind.colour and rng.random() < 0.06:
        colour = adjectives.pop()
        return " ".join([*adjectives, shape, rng.choice(("in", "coloured")), colour])
    return " ".join([*adjectives, shape])


def place_words(rng: Random, place: str) -> str:
    return rng.choice(("in the middle", "in the centre")) if place == "in the middle" else place


def synonym(rng: Random, word: str) -> str:
    return rng.choice(OTHER_WORDS[word]) if word in OTHER_WORDS and rng.random() < 0.12 else word


# --- what is true ---

COLOUR_CODE = {name: i for i, name in enumerate(COLOURS)}
SHAPE_CODE = {name: i for i, name in enumerate(SHAPES)}
SIZE_CODE = {name: i for i, name in enumerate(SIZES)}


def truth(scenes: Sequence[Scene], claims: Sequence[Claim]) -> Bools:
    """[scenes, claims]: is everything the claim states true of the scene?"""
    parts = SceneArrays.of(scenes)
    return np.stack([parts.judge(claim) for claim in claims], axis=1)


@dataclass(frozen=True)
class SceneArrays:
    """Scenes as columns [scenes, MOST]; places without a thing have code -1."""

    colour: npt.NDArray[np.int8]
    shape: npt.NDArray[np.int8]
    size: npt.NDArray[np.int8]
    x: Floats
    y: Floats
    background: npt.NDArray[np.str_]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> "SceneArrays":
        colour, shape, size = np.full((3, len(scenes), MOST), -1, np.int8)
        x, y = np.zeros((2, len(scenes), MOST), np.float32)
        for row, scene in enumerate(scenes):
            for at, thing in enumerate(scene.things):
                colour[row, at] = COLOUR_CODE[thing.colour]
                shape[row, at] = SHAPE_CODE[thing.shape]
                size[row, at] = SIZE_CODE[thing.size]
                x[row, at], y[row, at] = thing.x, thing.y
        return cls(colour, shape, size, x, y, np.array([scene.background for scene in scenes]))

    def judge(self, claim: Claim) -> Bools:
        if claim.stranger is not None:
            return np.zeros(len(self.background), np.bool_)
        holds = np.ones(len(self.background), np.bool_)
        if claim.background is not None:
            holds &= self.background == claim.background
        if claim.kind is not None:
            holds &= self.judge_kinds(claim, self.match(claim.kind))
        return holds

    def judge_kinds(self, claim: Claim, first: Bools) -> Bools:
        if claim.other is None:
            found = first.sum(axis=1)
            return np.asarray(found > 0 if claim.count == AT_LEAST_ONE else found == claim.count)
        # Two different things, one of each kind: some pair i != j in the relation.
        second = self.match(claim.other)
        pairs = first[:, :, None] & second[:, None, :] & ~np.eye(MOST, dtype=np.bool_)
        if claim.relation is not None:
            pairs &= self.related(claim.relation)
        two = (self.colour >= 0).sum(axis=1) == 2
        return np.asarray(two & pairs.any(axis=(1, 2)))

    def match(self, kind: Kind) -> Bools:
        """[scenes, MOST]: which things are of this kind?"""
        found = self.colour >= 0
        if kind.colour is not None:
            found &= self.colour == COLOUR_CODE[kind.colour]
        if kind.shape is not None:
            found &= self.shape == SHAPE_CODE[kind.shape]
        if kind.size is not None:
            found &= self.size == SIZE_CODE[kind.size]
        return found if kind.place is None else found & self.at(kind.place)

    def at(self, place: str) -> Bools:
        left, right = self.x < EDGE, self.x > 1 - EDGE
        top, bottom = self.y < EDGE, self.y > 1 - EDGE
        middle = ~(left | right | top | bottom)
        return dict(zip(PLACES, (left, right, top, bottom, middle), strict=True))[place]

    def related(self, relation: str) -> Bools:
        """[scenes, i, j]: does thing i lie in this relation to thing j?"""
        axis = self.x if relation in ("left", "right") else self.y
        ahead = axis[:, None, :] - axis[:, :, None]  # j minus i
        return np.asarray(ahead > STEP if relation in ("left", "above") else -ahead > STEP)
