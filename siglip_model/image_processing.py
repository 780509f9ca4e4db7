"""Image bytes, Pillow images or arrays to pixels: pure functions, and a class that holds numbers.

    to_rgb -> resize (to exactly height x width, no crop) -> rescale -> normalize -> [3, H, W]

`SiglipImageProcessor` gives what the reference's Pillow processor of v4.50 gives, bit for bit;
`image_processing_fast` holds its twin in torch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from siglip_model.batch import Batch, TensorKind, to_tensors
from siglip_model.files import (
    IMAGE_PROCESSOR_CONFIG,
    PROCESSING_FILES,
    CheckpointError,
    hub_options,
    read_image_config,
    resolve,
    write_json,
)
from siglip_model.image_arrays import (
    as_array,
    as_channels_last,
    channels_are_last,
    check_stackable,
    eight_bits,
    flatten_images,
    is_unit_range,
    on_white,
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
MAX_SIDE = 16_384  # far above what any model takes, and still a picture that memory holds

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Alpha = Literal["drop", "white"]
SixteenBit = Literal["clip", "scale"]


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


def are_finite(value: Any, most: int) -> bool:
    """Is `value` one number, or `most` of them?"""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return numbers.shape in ((), (most,)) and bool(np.isfinite(numbers).all())


def _by_channel(values: Sequence[float] | float) -> Floats:
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


@dataclass
class ImageSettings:
    """What `preprocessor_config.json` says, for the image processor of either kind.

    None stands for the default, here and in a call.

    size: {"height": h, "width": w}; one number is both. Pictures are squashed to it, never cropped.
    resample: a filter of Pillow, 0 nearest, 2 bilinear, 3 bicubic.
    rescale_factor: pixels are multiplied by it, also floats that already lie in 0 to 1, as in the reference.
    image_mean, image_std: of each channel, or one number for all.
    alpha: "drop" leaves colours as they are stored; "white" puts transparent pictures on white, as
        Transformers does from 5.21 on.
    sixteen_bit: "clip" takes grey values above 255 for white, as Pillow and the reference do; "scale"
        divides 16-bit values by 256.
    """

    do_resize: bool = True
    size: Any = field(default_factory=lambda: {"height": 224, "width": 224})
    resample: int = BICUBIC
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Sequence[float] | float = field(default_factory=lambda: [0.5, 0.5, 0.5])
    image_std: Sequence[float] | float = field(default_factory=lambda: [0.5, 0.5, 0.5])
    do_convert_rgb: bool | None = None
    _: KW_ONLY
    alpha: Alpha = "drop"
    sixteen_bit: SixteenBit = "clip"

    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) is None and item.default_factory is not MISSING:
                setattr(self, item.name, item.default_factory())
        if isinstance(self.size, int):
            self.size = {"height": self.size, "width": self.size}
        for name, allowed in (("alpha", get_args(Alpha)), ("sixteen_bit", get_args(SixteenBit))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")

    @property
    def height_width(self) -> tuple[int, int]:
        """`size` as (height, width). Raises ValueError for any other kind of size."""
        try:
            return int(self.size["height"]), int(self.size["width"])
        except (KeyError, TypeError):
            raise ValueError(f"size must be {{'height': h, 'width': w}}, not {self.size!r}") from None

    def check_numbers(self) -> None:
        """Raises ValueError for numbers that give NaN, or that the three channels cannot have."""
        self.check_size()
        if self.resample not in range(6):
            raise ValueError(f"resample is {self.resample!r} and must be one of Pillow's filters, 0 to 5")
        for name, most in (("rescale_factor", 1), ("image_mean", 3), ("image_std", 3)):
            value = getattr(self, name)
            usable = are_finite(value, most) and not (name == "image_std" and 0 in np.ravel(value))
            if not usable:
                numbers = "one finite number" + (" or three" if most == 3 else "")
                raise ValueError(
                    f"{name} is {value!r} and must be {numbers}{', not 0' * (name == 'image_std')}"
                )

    def check_size(self) -> None:
        """Raises ValueError for a size that the model cannot have."""
        for side in self.height_width:
            if not 1 <= side <= MAX_SIDE:
                raise ValueError(f"size is {self.size!r} and each side must be 1 to {MAX_SIDE} pixels")

    def for_call(self, overrides: Mapping[str, Any]) -> Self:
        """These settings with those of one call, checked; None changes nothing, as in the reference."""
        given: dict[str, Any] = {
            name: getattr(self, name, None) if value is None else value for name, value in overrides.items()
        }
        settings = replace(self, **given) if given else self
        settings.check_numbers()
        return settings

    def prepared(self, image: Image.Image) -> Image.Image:
        """RGB, in the way that the settings say."""
        if 0 in image.size:
            raise ValueError(f"an image of {image.size[0]} x {image.size[1]} has no pixels")
        if self.do_convert_rgb is False:
            if image.mode != "RGB":
                raise ValueError(f"an image of mode {image.mode} needs do_convert_rgb")
            return image
        if self.sixteen_bit == "scale" and image.mode.startswith("I"):
            image = Image.fromarray(eight_bits(np.asarray(image)))
        return on_white(image) if self.alpha == "white" else to_rgb(image)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Unknown keys of a file are kept as attributes; an unknown override is a TypeError."""
        names = {item.name for item in fields(cls)}
        known = {name: value for name, value in values.items() if name in names and value is not None}
        processor = cls(**(known | overrides))
        for name, value in values.items():
            if name not in names and not hasattr(cls, name):
                setattr(processor, name, value)
        return processor

    @classmethod
    def from_pretrained(cls, model: str | Path, **overrides: Any) -> Self:
        """`model` is a folder or a hub id; `overrides` replace what its file says."""
        folder = resolve(model, only=PROCESSING_FILES, **hub_options(overrides)).folder
        values = read_image_config(folder)
        if not values:
            raise CheckpointError(f"{folder} lacks {IMAGE_PROCESSOR_CONFIG}")
        try:
            processor = cls.from_dict(values, **overrides)
            processor.check_numbers()
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}") from None
        return processor

    def to_dict(self) -> dict[str, Any]:
        names = {"image_processor_type": type(self).__name__, "processor_class": "SiglipProcessor"}
        ours = {"alpha": "drop", "sixteen_bit": "clip"}  # unknown to other readers: written when they differ
        values = {name: value for name, value in vars(self).items() if ours.get(name) != value}
        return values | names

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`."""
        write_json(Path(folder) / IMAGE_PROCESSOR_CONFIG, self.to_dict())


@dataclass(kw_only=True)
class SiglipImageProcessor(ImageSettings):
    """Applies the settings with Pillow and numpy, as the reference's v4.50 does, bit for bit.

    Where that release is wrong this is right: any Pillow mode is converted to RGB unless
    `do_convert_rgb` is False (it raised, or took palette indices for colours), and a Pillow image
    1 or 3 pixels high is not taken for channels. EXIF orientation is ignored, as there: the
    pipelines turn pictures upright before.
    """

    def __call__(self, images: Any, **options: Any) -> Batch:
        """See `preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Any,
        *,
        return_tensors: TensorKind | None = None,
        data_format: str = "channels_first",
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> Batch:
        """`pixel_values` of one image or a list: Pillow images, arrays or tensors, [H, W, 3] or [3, H, W].

        `overrides` replace settings for this call. Without `return_tensors` the value is a list of
        float32 arrays [3, H, W], or [H, W, 3] with `data_format="channels_last"`. Where an array's
        channels are is guessed unless `input_data_format` says it. An unsigned byte is a pixel;
        other arrays must lie in 0 to 1, or hold whole numbers up to 255 (16-bit ones may be scaled).
        """
        settings = self.for_call(overrides)
        last = channels_are_last(data_format)
        pixels = [settings._process(image, input_data_format) for image in flatten_images(images)]
        if last:
            pixels = [np.ascontiguousarray(values.transpose(1, 2, 0)) for values in pixels]
        if return_tensors is None:
            return Batch(pixel_values=pixels)
        check_stackable([values.shape for values in pixels])
        return to_tensors({"pixel_values": pixels}, return_tensors)

    def _process(self, image: Any, input_data_format: str | None) -> npt.NDArray[Any]:
        pixels = self._resized(image, input_data_format)
        if self.do_rescale:
            pixels = rescale(pixels, self.rescale_factor)
        if self.do_normalize:
            pixels = normalize(pixels, self.image_mean, self.image_std)
        return pixels

    def _resized(self, image: Any, input_data_format: str | None) -> npt.NDArray[Any]:
        if isinstance(image, Image.Image):
            picture = self.prepared(image)
            return channels_first(
                resize(picture, self.height_width, self.resample) if self.do_resize else picture
            )
        array = as_channels_last(as_array(image), input_data_format)
        if self.sixteen_bit == "scale":
            array = eight_bits(array)
        if not self.do_resize:
            return np.ascontiguousarray(array.transpose(2, 0, 1))
        unit_range = is_unit_range(array)
        picture = Image.fromarray((rescale(array, 255) if unit_range else array).astype(np.uint8))
        pixels = channels_first(resize(picture, self.height_width, self.resample))
        return rescale(pixels, 1 / 255) if unit_range else pixels
