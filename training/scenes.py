"""Draws the scenes that the demo checkpoint learns from: one to four coloured shapes.

A scene is data first (`Scene`), a picture second (`draw`), and arrays for the truth of captions
third (`captions.py`). Everything is a function of a seed, so any scene can be made again.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (245, 130, 20),
    "yellow": (250, 220, 30),
    "green": (30, 160, 60),
    "cyan": (30, 200, 215),
    "blue": (35, 70, 225),
    "purple": (125, 45, 170),
    "pink": (245, 120, 185),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
BACKGROUNDS = {"white": (228, 255), "grey": (105, 150), "black": (0, 28)}  # range of grey levels
# Diameter as a fraction of the picture's shorter side; nothing lies between the classes.
SIZES = {"small": (0.24, 0.30), "medium": (0.36, 0.46), "large": (0.54, 0.74)}

# Never drawn and never named in training: whoever gets them right has composed them. No colour
# and no shape loses more than one partner.
HELD_OUT = frozenset(
    {
        ("red", "star"),
        ("orange", "heart"),
        ("green", "ring"),
        ("blue", "crescent"),
        ("purple", "triangle"),
        ("pink", "cross"),
    }
)
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
SEEN = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

IMAGE_SIZE = 64
NOISE_SIZE = 512

Point = tuple[float, float]


@dataclass(frozen=True)
class Thing:
    colour: str
    shape: str
    size: str
    diameter: float  # fraction of the shorter side
    x: float  # centre, fraction of the width
    y: float  # centre, fraction of the height
    angle: float  # radians


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    background: str
    width: int  # pixels
    height: int
    seed: str  # of everything that `draw` decides: exact colours, noise, JPEG quality


def random_scene(rng: Random, pairs: Sequence[tuple[str, str]] = SEEN) -> Scene:
    """One thing, two to four equal things, or two different ones."""
    form = rng.choices(("one", "many", "two"), (50, 28, 22))[0]
    if form == "one":
        return scene_of(rng, [rng.choice(pairs)])
    if form == "many":
        return scene_of(rng, [rng.choice(pairs)] * rng.randint(2, 4))
    return scene_of(rng, rng.sample(pairs, 2))


def scene_of(rng: Random, pairs: list[tuple[str, str]], canvas: tuple[int, int] | None = None) -> Scene:
    """A scene of the given (colour, shape) pairs; equal pairs get the same size."""
    width, height = canvas or random_canvas(rng)
    while True:
        sizes = random_sizes(rng, pairs)
        things = place(rng, pairs, sizes, width, height)
        if things is not None:
            background = rng.choice(tuple(BACKGROUNDS))
            return Scene(things, background, width, height, f"draw/{rng.getrandbits(64)}")


def random_canvas(rng: Random) -> tuple[int, int]:
    """Longer side 96 to 192 pixels, at most 4:3."""
    side, aspect = rng.randint(96, 192), rng.uniform(1, 1.34) if rng.random() < 0.7 else 1.0
    longer, shorter = side, round(side / aspect)
    return (longer, shorter) if rng.random() < 0.7 else (shorter, longer)


def random_sizes(rng: Random, pairs: list[tuple[str, str]]) -> list[str]:
    allowed = {1: ("small", "medium", "large"), 2: ("small", "medium")}.get(len(pairs), ("small",))
    chosen = {pair: rng.choice(allowed) for pair in dict.fromkeys(pairs)}
    return [chosen[pair] for pair in pairs]


def place(
    rng: Random, pairs: list[tuple[str, str]], sizes: list[str], width: int, height: int
) -> tuple[Thing, ...] | None:
    """Put the things down one after another without overlap; None when one finds no room."""
    things: list[Thing] = []
    for (colour, shape), size in zip(pairs, sizes, strict=True):
        for _ in range(30):
            diameter = rng.uniform(*SIZES[size])
            x, y = random_centre(rng, diameter, width, height)
            thing = Thing(colour, shape, size, diameter, x, y, rng.uniform(-0.2, 0.2))
            if all(apart(thing, other, width, height) for other in things):
                things.append(thing)
                break
        else:
            return None
    return tuple(things)


def random_centre(rng: Random, diameter: float, width: int, height: int) -> Point:
    radius = 0.52 * diameter * min(width, height)
    x, y = radius / width, radius / height
    return rng.uniform(x, 1 - x), rng.uniform(y, 1 - y)


def apart(a: Thing, b: Thing, width: int, height: int) -> bool:
    distance = math.hypot((a.x - b.x) * width, (a.y - b.y) * height) / min(width, height)
    return distance > 0.6 * (a.diameter + b.diameter)


# --- pictures ---


def draw(scene: Scene, scale: int = 1) -> Image.Image:
    """The scene as a picture of `scale` times its width and height, without camera damage."""
    rng = Random(scene.seed)
    width, height = scene.width * scale, scene.height * scale
    picture = backdrop(rng, scene.background, width, height)
    for thing in scene.things:
        diameter = max(2, round(thing.diameter * min(width, height)))
        mask = stencil(thing.shape, diameter, thing.angle)
        corner = round(thing.x * width - diameter / 2), round(thing.y * height - diameter / 2)
        picture.paste(shade(rng, COLOURS[thing.colour]), corner, mask)
    return picture


def photograph(scene: Scene) -> Image.Image:
    """The drawn scene after a bad camera: noise always, JPEG artefacts most of the time."""
    rng = Random(scene.seed + "/camera")
    picture = noisy(rng, draw(scene))
    return jpeg(picture, rng.randint(50, 95)) if rng.random() < 0.6 else picture


def pixels(picture: Image.Image) -> np.ndarray:
    """The image processor's squash to 64 x 64, as uint8 [H, W, 3]."""
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def backdrop(rng: Random, name: str, width: int, height: int) -> Image.Image:
    """A grey level, half of the time with a slow change across the picture."""
    low, high = BACKGROUNDS[name]
    start = rng.randint(low, high)
    tint = [min(255, max(0, start + rng.randint(-4, 4))) for _ in range(3)]
    if rng.random() < 0.5:
        return Image.new("RGB", (width, height), (tint[0], tint[1], tint[2]))
    end = min(high, max(low, start + rng.choice((-20, 20))))
    ramp = Image.new("L", (2, 2))
    ramp.putdata([start, end, start, end] if rng.random() < 0.5 else [start, start, end, end])
    return ramp.resize((width, height), Image.Resampling.BILINEAR).convert("RGB")


def shade(rng: Random, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    light = rng.uniform(0.88, 1.05)
    red, green, blue = (min(255, max(0, round(light * channel + rng.uniform(-12, 12)))) for channel in colour)
    return red, green, blue


def noisy(rng: Random, picture: Image.Image) -> Image.Image:
    strength = rng.uniform(0, 9)
    row, column = rng.randrange(NOISE_SIZE // 2), rng.randrange(NOISE_SIZE // 2)
    values = np.asarray(picture, dtype=np.float32)
    grain = noise()[row : row + values.shape[0], column : column + values.shape[1]]
    return Image.fromarray(np.clip(values + strength * grain, 0, 255).astype(np.uint8))


@cache
def noise() -> np.ndarray:
    """One sheet of noise for all pictures; each takes its own cut-out."""
    return np.random.default_rng(0).standard_normal((NOISE_SIZE, NOISE_SIZE, 3), np.float32)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


# --- shapes: outlines in a circle of radius 1, or round ones cut from discs ---


def stencil(shape: str, diameter: int, angle: float) -> Image.Image:
    mask = Image.new("L", (diameter, diameter))
    pen = ImageDraw.Draw(mask)
    if shape in OUTLINES:
        points = [turn(point, angle) for point in OUTLINES[shape]]
        pen.polygon([((x + 1) * diameter / 2, (y + 1) * diameter / 2) for x, y in points], 255)
    else:
        ROUND[shape](pen, diameter, angle)
    return mask


def turn(point: Point, angle: float) -> Point:
    (x, y), (sin, cos) = point, (math.sin(angle), math.cos(angle))
    return x * cos - y * sin, x * sin + y * cos


def disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, ink: int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), ink)


def circle(pen: ImageDraw.ImageDraw, diameter: int, angle: float) -> None:
    disc(pen, diameter / 2, diameter / 2, diameter / 2 - 0.5, 255)


def ring(pen: ImageDraw.ImageDraw, diameter: int, angle: float) -> None:
    circle(pen, diameter, angle)
    disc(pen, diameter / 2, diameter / 2, 0.29 * diameter, 0)


def crescent(pen: ImageDraw.ImageDraw, diameter: int, angle: float) -> None:
    circle(pen, diameter, angle)
    x, y = turn((0.24 * diameter, 0), angle)
    disc(pen, diameter / 2 + x, diameter / 2 + y, 0.38 * diameter, 0)


ROUND: dict[str, Callable[[ImageDraw.ImageDraw, int, float], None]] = {
    "circle": circle,
    "ring": ring,
    "crescent": crescent,
}


def corners(radii: tuple[float, ...], count: int) -> list[Point]:
    """`count` points at equal angles from the top, their radii repeating."""
    angles = [2 * math.pi * i / count - math.pi / 2 for i in range(count)]
    return [
        (radii[i % len(radii)] * math.cos(a), radii[i % len(radii)] * math.sin(a))
        for i, a in enumerate(angles)
    ]


def heart_outline() -> list[Point]:
    angles = [2 * math.pi * i / 32 for i in range(32)]
    return [
        (
            math.sin(a) ** 3 * 0.95,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 17,
        )
        for a in angles
    ]


ARM = 0.3  # half the width of the cross's arms
OUTLINES: dict[str, list[Point]] = {
    "square": [(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)],
    "triangle": corners((1.0,), 3),
    "star": corners((1.0, 0.42), 10),
    "cross": [
        point
        for sx, sy in ((1, -1), (1, 1), (-1, 1), (-1, -1))
        for point in (
            [(sx * ARM, sy * 0.95), (sx * ARM, sy * ARM), (sx * 0.95, sy * ARM)]
            if sx * sy < 0
            else [(sx * 0.95, sy * ARM), (sx * ARM, sy * ARM), (sx * ARM, sy * 0.95)]
        )
    ],
    "heart": heart_outline(),
}
