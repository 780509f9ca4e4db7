"""Pictures as they are given: nested lists, either place of the channels, alpha, 16 bits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

FIRST, LAST = "channels_first", "channels_last"


def flatten_images(images: Any) -> list[Any]:
    """One image, a list (of lists) of images, or a 4-D array -> a flat list."""
    if isinstance(images, list | tuple):
        return [image for item in images for image in flatten_images(item)]
    return list(images) if getattr(images, "ndim", 3) == 4 else [images]


def as_array(image: Any) -> npt.NDArray[Any]:
    """An array, or a tensor on any device, as an array. Raises ValueError for anything else."""
    if not hasattr(image, "__array__"):
        raise ValueError(f"an image must be a Pillow image, an array or a tensor, not {type(image).__name__}")
    return np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)


def check_stackable(shapes: Sequence[Sequence[int]]) -> None:
    """Raises ValueError unless the images can be one tensor."""
    if not shapes:
        raise ValueError("there is no image to make a tensor of")
    if len(set(map(tuple, shapes))) > 1:
        shown = " and ".join(str(list(shape)) for shape in sorted(set(map(tuple, shapes)))[:2])
        raise ValueError(f"images of {shown} cannot be one tensor: do_resize must be on")


def channels_are_last(data_format: str | None) -> bool:
    """Enumerations of other libraries are understood by their value."""
    name = str(getattr(data_format, "value", data_format))
    if name not in (FIRST, LAST):
        raise ValueError(f"data_format must be {FIRST!r} or {LAST!r}, not {data_format!r}")
    return name == LAST


def lies_last(shape: Sequence[int], data_format: str | None) -> bool:
    """Where the 3 channels of one image are; first where both could be meant, as in the reference."""
    last = channels_are_last(data_format) if data_format is not None else 3 not in shape[:1]
    if len(shape) != 3 or shape[2 if last else 0] != 3:
        wanted = "[H, W, 3]" if last else "[3, H, W]"
        wanted = wanted if data_format is not None else "[3, H, W] or [H, W, 3]"
        raise ValueError(f"an image array must be {wanted}, not {list(shape)}")
    if 0 in shape:
        raise ValueError(f"an image of shape {list(shape)} has no pixels")
    return last


def as_channels_last(array: npt.NDArray[Any], data_format: str | None = None) -> npt.NDArray[Any]:
    """[3, H, W] or [H, W, 3] -> [H, W, 3]."""
    return array if lies_last(array.shape, data_format) else array.transpose(1, 2, 0)


def is_unit_range(array: npt.NDArray[Any]) -> bool:
    """True: floats from 0 to 1. False: whole numbers from 0 to 255."""
    if array.dtype == np.uint8:
        return False
    low, high = array.min(), array.max()
    if low >= 0 and high <= 255 and np.allclose(array, array.astype(int)):
        return False
    if low >= 0 and high <= 1:
        return True
    raise ValueError(
        f"image values run from {low} to {high}: give whole numbers from 0 to 255, or floats from 0 to 1"
    )


def eight_bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of 16 bits by their upper 8; other arrays as they are."""
    wide = array.dtype.kind in "iu" and array.dtype.itemsize > 1 and array.size and array.max() > 255
    return (array >> 8).clip(0, 255).astype(np.uint8) if wide else array


def on_white(image: Image.Image) -> Image.Image:
    """RGB, with what is transparent on white."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
