"""The image processor in plain torch, on any device: pictures of one size are processed together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from siglip_model.batch import Batch, TensorKind
from siglip_model.image_arrays import (
    as_array,
    as_channels_last,
    channels_are_last,
    check_stackable,
    eight_bits,
    flatten_images,
    lies_last,
)
from siglip_model.image_processing import ImageSettings

# Numbers are Pillow's. Its other filters have no counterpart in torch.
MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}
NEAREST = 0


@dataclass(kw_only=True)
class SiglipImageProcessorFast(ImageSettings):
    """As the reference's fast processor of v4.50, without torchvision.

    Not bit for bit what SiglipImageProcessor gives: Pillow resizes in fixed point, and torch rounds
    elsewhere. Of the values of photographs 0.2 to 0.9 % differ, by 1 or 2 of 255 steps; in extremely
    long and narrow pictures up to a fifth. On a GPU, which resizes in floating point, about a tenth
    differ by one step. Floats are not rounded to steps at all, as the other processor does. An index
    of vectors should be made with one processor throughout.
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
        device: torch.device | str | None = None,
        **overrides: Any,
    ) -> Batch:
        """`pixel_values` of one image or a list: Pillow images, arrays or tensors, [H, W, 3] or [3, H, W].

        `overrides` replace settings for this call. The result is one float32 tensor [n, 3, H, W] with
        `return_tensors="pt"`, and a list of tensors without. `device` None works where the images are.
        """
        settings = self.for_call(overrides)
        if channels_are_last(data_format):
            raise ValueError("the fast image processor gives channels_first only")
        tensors = [settings._tensor(image, input_data_format, device) for image in flatten_images(images)]
        pixels: list[Tensor] = [torch.empty(0)] * len(tensors)
        for indices in same_shape(tensors):
            done = settings._process(torch.stack([tensors[index] for index in indices]))
            for index, one in zip(indices, done, strict=True):
                pixels[index] = one
        if return_tensors is None:
            return Batch(pixel_values=pixels)
        if return_tensors not in ("pt", "np"):
            raise ValueError(f"return_tensors must be 'np', 'pt' or None, not {return_tensors!r}")
        check_stackable([values.shape for values in pixels])
        stacked = torch.stack(pixels)
        return Batch(pixel_values=stacked if return_tensors == "pt" else stacked.cpu().numpy())

    def _tensor(self, image: Any, input_data_format: str | None, device: torch.device | str | None) -> Tensor:
        """[3, H, W], uint8 or float32, on the device."""
        if isinstance(image, Image.Image):
            tensor = torch.from_numpy(np.array(self.prepared(image))).permute(2, 0, 1)
        elif isinstance(image, Tensor) and image.dtype in (torch.uint8, torch.float32):
            last = lies_last(image.shape, input_data_format)
            tensor = image.permute(2, 0, 1) if last else image
        else:
            array = as_array(image)
            array = eight_bits(array) if self.sixteen_bit == "scale" else array
            tensor = torch.from_numpy(np.array(as_channels_last(array, input_data_format)))
            tensor = tensor.permute(2, 0, 1)
        tensor = tensor if tensor.dtype == torch.uint8 else tensor.float()
        return tensor.to(device) if device is not None else tensor

    def _process(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] of one shape."""
        if self.do_resize:
            pixels = resize(pixels, self.height_width, self.resample)
        pixels = pixels.float()
        if self.do_rescale and self.do_normalize:  # one step: (x / 255 - mean) / std
            return normalize(pixels, self.image_mean, self.image_std, 1 / self.rescale_factor)
        if self.do_rescale:
            return pixels * self.rescale_factor
        return normalize(pixels, self.image_mean, self.image_std, 1.0) if self.do_normalize else pixels


def resize(pixels: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """[n, 3, H, W] to (height, width), uint8 or float32 as it comes; shrinking is antialiased."""
    if resample not in MODES:
        known = ", ".join(f"{number} ({mode})" for number, mode in MODES.items())
        raise ValueError(f"resample is {resample!r}; the fast image processor has {known}")
    if resample == NEAREST:
        return F.interpolate(pixels, size, mode=MODES[resample])
    whole = pixels.dtype == torch.uint8
    if whole and pixels.device.type != "cpu":  # only the CPU resizes bytes
        return _interpolate(pixels.float(), size, resample).clamp_(0, 255).round_().to(torch.uint8)
    return _interpolate(pixels, size, resample)


def _interpolate(pixels: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    return F.interpolate(pixels, size, mode=MODES[resample], antialias=True, align_corners=False)


def normalize(
    pixels: Tensor, mean: Sequence[float] | float, std: Sequence[float] | float, factor: float
) -> Tensor:
    """(pixels - factor * mean) / (factor * std) for each channel of [n, 3, H, W]."""
    by_channel = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device).mul_(factor).reshape(-1, 1, 1)
        for values in (mean, std)
    )
    return pixels.sub(next(by_channel)).div_(next(by_channel))


def same_shape(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Indices of tensors that can be stacked."""
    groups: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(index)
    yield from groups.values()
