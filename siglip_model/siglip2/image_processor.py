"""Pictures to NaFlex patches: the shape is kept, the number of patches is limited.

to_rgb -> resize (whole patches, at most max_num_patches) -> rescale -> normalize -> patches -> pad
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from siglip_model.batch import Batch, TensorKind, to_tensors
from siglip_model.image_arrays import as_array, as_channels_last, flatten_images
from siglip_model.image_processing import Floats, ImageSettings, SiglipImageProcessor

BILINEAR = int(Image.Resampling.BILINEAR)
# The reference's search for the scale, which decides sizes at its limits: both numbers are part of it.
LARGEST_SCALE = 100.0
SCALE_STEP = 1e-5


@dataclass(kw_only=True)
class Siglip2ImageProcessor(ImageSettings):
    """Settings are those of SiglipImageProcessor, and in place of `size`:

    patch_size: side of a patch in pixels.
    max_num_patches: how many patches a picture has at most, and every row exactly.
    """

    resample: int = BILINEAR
    size: None = None
    patch_size: int = 16
    max_num_patches: int = 256

    model_input_names: ClassVar[list[str]] = ["pixel_values", "pixel_attention_mask", "spatial_shapes"]

    def check_size(self) -> None:
        for name in ("patch_size", "max_num_patches"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r} and must be a whole number above 0")

    def __call__(self, images: Any, **options: Any) -> Batch:
        """See `preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Any,
        *,
        return_tensors: TensorKind | None = None,
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> Batch:
        """One image or a list, as `SiglipImageProcessor` takes them; `overrides` replace settings.

        pixel_values: float32 [B, max_num_patches, patch_size * patch_size * 3], zeros after the real ones.
        pixel_attention_mask: int32 [B, max_num_patches], 1 for a real patch.
        spatial_shapes: int64 [B, 2], rows and columns of patches.

        Without `return_tensors` each is a list with one entry per image.
        """
        settings = self.for_call(overrides)
        rows, masks, grids = [], [], []
        for image in flatten_images(images):
            pixels = settings._pixels(image, input_data_format)
            patches = to_patches(pixels, settings.patch_size)
            row, mask = padded(patches, settings.max_num_patches)
            rows.append(row)
            masks.append(mask)
            grids.append((pixels.shape[1] // settings.patch_size, pixels.shape[2] // settings.patch_size))
        values = {"pixel_values": rows, "pixel_attention_mask": masks, "spatial_shapes": grids}
        return to_tensors(values, return_tensors)

    def _pixels(self, image: Any, input_data_format: str | None) -> Floats:
        """[3, H, W] of whole patches."""
        height, width = height_and_width(image, input_data_format)
        if self.do_resize:
            height, width = size_in_pixels(height, width, self.patch_size, self.max_num_patches)
        elif height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"do_resize is off and an image of {height} x {width} is no whole number of patches of "
                f"{self.patch_size} x {self.patch_size}"
            )
        shared = {item.name: getattr(self, item.name) for item in fields(ImageSettings)}
        one = SiglipImageProcessor(**shared | {"size": {"height": height, "width": width}})
        pixels: Floats = one.preprocess(image, input_data_format=input_data_format).pixel_values[0]
        return pixels

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict() | {"processor_class": "Siglip2Processor"}
        return {name: value for name, value in values.items() if name != "size"}


def height_and_width(image: Any, input_data_format: str | None) -> Sequence[int]:
    if isinstance(image, Image.Image):
        return image.height, image.width
    return as_channels_last(as_array(image), input_data_format).shape[:2]


def size_in_pixels(height: int, width: int, patch_size: int, max_num_patches: int) -> tuple[int, int]:
    """The largest size of this shape with at most `max_num_patches`; sides are rounded up to patches."""
    low, high = SCALE_STEP / 10, LARGEST_SCALE
    while high - low >= SCALE_STEP:
        scale = (low + high) / 2
        rows, columns = (patches_along(side, scale, patch_size) for side in (height, width))
        if rows * columns <= max_num_patches:
            low = scale
        else:
            high = scale
    rows, columns = (patches_along(side, low, patch_size) for side in (height, width))
    return rows * patch_size, columns * patch_size


def patches_along(side: int, scale: float, patch_size: int) -> int:
    return max(1, math.ceil(side * scale / patch_size))


def to_patches(pixels: Floats, patch_size: int) -> Floats:
    """[3, H, W] -> [rows * columns, patch_size * patch_size * 3], row by row, colours innermost."""
    channels, height, width = pixels.shape
    rows, columns = height // patch_size, width // patch_size
    grid = pixels.reshape(channels, rows, patch_size, columns, patch_size)
    return grid.transpose(1, 3, 2, 4, 0).reshape(rows * columns, -1)


def padded(patches: Floats, length: int) -> tuple[Floats, npt.NDArray[np.int32]]:
    """`length` patches, and 1 for each real one."""
    count = len(patches)
    if count > length:
        raise ValueError(f"an image has {count} patches and max_num_patches is {length}")
    mask = (np.arange(length) < count).astype(np.int32)
    return np.pad(patches, ((0, length - count), (0, 0))), mask
