"""Images in the forms that callers have -> encoded bytes as they are sent."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image as PILImage

ImageLike: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO"
    " | PILImage.Image | npt.NDArray[np.uint8]"
)

# What PNG stores without loss; any other mode is turned into RGB first.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def to_bytes(image: ImageLike) -> bytes:
    """The bytes of an encoded image file.

    `image` is encoded bytes, the path of a file, an open binary file (read from
    where it stands), a Pillow image, or a uint8 array [height, width, 3] in RGB.
    The last two are encoded without loss as PNG and need Pillow; their pixels
    are taken as they are, so apply `ImageOps.exif_transpose` to a Pillow image
    whose camera was held sideways. Raises TypeError, ValueError, OSError.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, np.ndarray):
        return _encode(_from_array(image))
    if hasattr(image, "read"):
        return _read(image)
    if type(image).__module__.startswith("PIL."):
        return _encode(image)
    raise TypeError(f"an image cannot be a {type(image).__name__}; give {_ACCEPTED}")


_ACCEPTED = "bytes, a path, an open binary file, a Pillow image, or a uint8 array [height, width, 3]"


def _read(file: Any) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise TypeError('an image file must be opened in binary mode ("rb")')
    return data


def _from_array(array: npt.NDArray[Any]) -> PILImage.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        shape = list(array.shape)
        raise ValueError(f"an image array must be uint8 [height, width, 3], not {array.dtype} {shape}")
    image: PILImage.Image = _pillow().fromarray(np.ascontiguousarray(array))
    return image


def _encode(image: PILImage.Image) -> bytes:
    if image.mode == "F":
        raise ValueError("a Pillow image of mode F has no defined range; convert it to L or RGB first")
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("sending arrays as images needs Pillow: pip install pillow") from error
    return Image
