"""Scenes can be made again, keep what they promise, and never show a held-out pair."""

import math
from random import Random

import numpy as np
import pytest
from PIL import Image

from siglip_model import SiglipImageProcessor
from training.batches import image_tensor, normalized
from training.scenes import (
    COLOURS,
    HELD_OUT,
    IMAGE_SIZE,
    PAIRS,
    SEEN,
    SHAPES,
    SIZES,
    Scene,
    draw,
    photograph,
    pixels,
    random_scene,
    scene_of,
    stencil,
)


def scenes(count: int, seed: str = "test") -> list[Scene]:
    rng = Random(seed)
    return [random_scene(rng) for _ in range(count)]


def test_a_seed_gives_the_same_pictures() -> None:
    first = [pixels(photograph(scene)) for scene in scenes(8)]
    again = [pixels(photograph(scene)) for scene in scenes(8)]
    other = [pixels(photograph(scene)) for scene in scenes(8, "other")]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_scenes_cover_all_trained_pairs_and_no_other() -> None:
    drawn = {(thing.colour, thing.shape) for scene in scenes(3000) for thing in scene.things}
    assert drawn == set(SEEN)
    assert len(PAIRS) == 64
    assert set(PAIRS) - drawn == HELD_OUT


def test_no_colour_and_no_shape_is_held_out_twice() -> None:
    assert len({colour for colour, _ in HELD_OUT}) == len(HELD_OUT)
    assert len({shape for _, shape in HELD_OUT}) == len(HELD_OUT)


def test_things_lie_inside_the_picture_and_apart() -> None:
    for scene in scenes(500):
        shorter = min(scene.width, scene.height)
        for thing in scene.things:
            radius_x = 0.5 * thing.diameter * shorter / scene.width
            radius_y = 0.5 * thing.diameter * shorter / scene.height
            assert radius_x <= thing.x <= 1 - radius_x
            assert radius_y <= thing.y <= 1 - radius_y
            low, high = SIZES[thing.size]
            assert low <= thing.diameter <= high
        for i, a in enumerate(scene.things):
            for b in scene.things[:i]:
                distance = math.hypot((a.x - b.x) * scene.width, (a.y - b.y) * scene.height)
                assert distance / shorter > 0.5 * (a.diameter + b.diameter)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_where_and_in_the_colour_that_the_scene_says(shape: str) -> None:
    for seed, (colour, rgb) in enumerate(COLOURS.items()):
        scene = scene_of(Random(seed), [(colour, shape)], canvas=(120, 120))
        picture = np.asarray(draw(scene), dtype=np.int16)
        coloured = np.abs(picture - np.array(rgb)).max(axis=2) < 60
        rows, columns = np.nonzero(coloured & (np.ptp(picture, axis=2) > 60))
        thing = scene.things[0]
        assert abs(columns.mean() / 120 - thing.x) < 0.25 * thing.diameter
        assert abs(rows.mean() / 120 - thing.y) < 0.25 * thing.diameter


def test_shapes_differ() -> None:
    masks = [np.asarray(stencil(shape, 40, 0.0)) > 0 for shape in SHAPES]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert (a != b).mean() > 0.1


def test_training_pixels_are_those_of_the_image_processor() -> None:
    drawn = scenes(4)
    processor = SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    pictures: list[Image.Image] = [photograph(scene) for scene in drawn]
    expected = processor(pictures, return_tensors="np")["pixel_values"]
    assert np.array_equal(normalized(image_tensor(drawn)).numpy(), expected)
