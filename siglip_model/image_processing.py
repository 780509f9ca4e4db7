"""Image bytes, Pillow images or arrays to pixels: pure functions, and a class that holds numbers.

    to_rgb -> resize (to exactly height x width, no crop) -> rescale -> normalize -> [3, H, W]

`SiglipImageProcessor` gives what the reference's Pillow processor of v4.50 gives, bit for bit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from siglip_model.batch import Batch, TensorKind, to_tensors
from siglip_model.files import (
    IMAGE_PROCESSOR_CONFIG,
    PROCESSING_FILES,
    CheckpointError,
    read_image_config,
    resolve,
    write_json,
)
from siglip_model.image_decoding import ImageError, ImageLimits, open_image, to_rgb

__all__ = [
    "ImageError",
    "ImageLimits",
    "SiglipImageProcessor",
    "decode",
    "normalize",
    "rescale",
    "resize",
    "to_rgb",
]

BICUBIC = int(Image.Resampling.BICUBIC)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def decode(data: bytes, limits: ImageLimits, size: tuple[int, int], resample: int = BICUBIC) -> Pixels:
    """An encoded picture -> uint8 [3, H, W] for a worker; `size` is (H, W).

    Turned as its EXIF orientation says, alpha dropped, first frame only. Pure and thread-safe.
    Raises ImageError.
    """
    return channels_first(resize(open_image(data, limits), size, resample))


def resize(image: Image.Image, size: tuple[int, int], resample: int = BICUBIC) -> Image.Image:
    """To exactly (height, width): the picture is squashed, nothing is cut off."""
    return image.resize((size[1], size[0]), resample=Image.Resampling(resample))


def channels_first(image: Image.Image) -> Pixels:
    """RGB picture -> uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def rescale(pixels: npt.NDArray[Any], factor: float) -> Floats:
    """Multiplied in float64 and then rounded to float32, as the reference does."""
    return (pixels.astype(np.float64) * factor).astype(np.float32)


def normalize(pixels: Floats, mean: Sequence[float] | float, std: Sequence[float] | float) -> Floats:
    """(pixels - mean) / std for each channel of [..., 3, H, W]; one number serves all channels."""
    return (pixels - _by_channel(mean)) / _by_channel(std)


def _by_channel(values: Sequence[float] | float) -> Floats:
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


@dataclass(kw_only=True)
class SiglipImageProcessor:
    """Settings of `preprocessor_config.json`, and the call that applies them.

    Where the reference's v4.50 is wrong this is right: any Pillow mode is converted to RGB unless
    `do_convert_rgb` is False (it raised, or took palette indices for colours), and a Pillow image
    1 or 3 pixels high is not taken for channels.
    """

    do_convert_rgb: bool | None = None
    do_resize: bool = True
    size: Mapping[str, int] = field(default_factory=lambda: {"height": 224, "width": 224})
    resample: int = BICUBIC
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Sequence[float] | float = field(default_factory=lambda: [0.5, 0.5, 0.5])
    image_std: Sequence[float] | float = field(default_factory=lambda: [0.5, 0.5, 0.5])

    @property
    def height_width(self) -> tuple[int, int]:
        """`size` as (height, width). Raises ValueError for any other kind of size."""
        try:
            return int(self.size["height"]), int(self.size["width"])
        except (KeyError, TypeError):
            raise ValueError(f"size must be {{'height': h, 'width': w}}, not {self.size!r}") from None

    def _check_numbers(self) -> None:
        """Raises ValueError for numbers that give NaN, or that the three channels cannot have."""
        if self.resample not in range(6):
            raise ValueError(f"resample is {self.resample!r} and must be one of Pillow's filters, 0 to 5")
        for name in ("rescale_factor", "image_mean", "image_std"):
            value = getattr(self, name)
            numbers = value if isinstance(value, list | tuple) and len(value) == 3 else [value]
            usable = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
            if not usable or (name == "image_std" and 0 in numbers):
                raise ValueError(f"{name} is {value!r} and must be finite, one number or three, no divisor 0")

    def __call__(self, images: Any, *, return_tensors: TensorKind | None = None, **overrides: Any) -> Batch:
        """`pixel_values` of one image or a list: Pillow images, arrays or tensors, [H, W, 3] or [3, H, W].

        `overrides` replace settings for this call. Without `return_tensors` the value is a list of
        float32 arrays [3, H, W]. Float arrays must lie in 0 to 1, or hold whole numbers up to 255.
        """
        settings = replace(self, **overrides)
        pixels = [settings._process(image) for image in _flatten(images)]
        if return_tensors is None:
            return Batch(pixel_values=pixels)
        return to_tensors({"pixel_values": pixels}, return_tensors)

    def _process(self, image: Any) -> npt.NDArray[Any]:
        pixels = self._resized(image)
        if self.do_rescale:
            pixels = rescale(pixels, self.rescale_factor)
        if self.do_normalize:
            pixels = normalize(pixels, self.image_mean, self.image_std)
        return pixels

    def _resized(self, image: Any) -> npt.NDArray[Any]:
        if isinstance(image, Image.Image):
            picture = image if self.do_convert_rgb is False else to_rgb(image)
            if picture.mode != "RGB":
                raise ValueError(f"an image of mode {picture.mode} needs do_convert_rgb")
            return channels_first(
                resize(picture, self.height_width, self.resample) if self.do_resize else picture
            )
        array = _channels_last(np.asarray(image))
        if not self.do_resize:
            return np.ascontiguousarray(array.transpose(2, 0, 1))
        unit_range = _is_unit_range(array)
        picture = Image.fromarray((rescale(array, 255) if unit_range else array).astype(np.uint8))
        pixels = channels_first(resize(picture, self.height_width, self.resample))
        return rescale(pixels, 1 / 255) if unit_range else pixels

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None, **overrides: Any) -> Self:
        """`model` is a folder or a hub id; `overrides` replace what its file says."""
        folder = resolve(model, revision=revision, only=PROCESSING_FILES).folder
        values = read_image_config(folder)
        if not values:
            raise CheckpointError(f"{folder} lacks {IMAGE_PROCESSOR_CONFIG}")
        known = {item.name: values[item.name] for item in fields(cls) if values.get(item.name) is not None}
        processor = cls(**(known | overrides))
        try:
            processor.height_width  # noqa: B018  # raises for a size that this model cannot have
            processor._check_numbers()
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}") from None
        return processor

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`."""
        names = {"image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor"}
        write_json(Path(folder) / IMAGE_PROCESSOR_CONFIG, names | asdict(self))


def _flatten(images: Any) -> list[Any]:
    """One image, a list (of lists) of images, or a 4-D array -> a flat list."""
    if isinstance(images, list | tuple):
        return [image for item in images for image in _flatten(item)]
    return list(images) if getattr(images, "ndim", 3) == 4 else [images]


def _channels_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Three channels first or last; first where both could be meant, as in the reference."""
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]):
        raise ValueError(f"an image array must be [3, H, W] or [H, W, 3], not {list(array.shape)}")
    return array.transpose(1, 2, 0) if array.shape[0] == 3 else array


def _is_unit_range(array: npt.NDArray[Any]) -> bool:
    """True: floats from 0 to 1. False: whole numbers from 0 to 255."""
    if array.dtype == np.uint8:
        return False
    low, high = array.min(), array.max()
    if np.allclose(array, array.astype(int)) and low >= 0 and high <= 255:
        return False
    if low >= 0 and high <= 1:
        return True
    raise ValueError(
        f"image values run from {low} to {high}: give whole numbers from 0 to 255, or floats from 0 to 1"
    )
