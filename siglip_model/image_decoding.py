"""Opens pictures sent by strangers: refuses before decoding, never guesses, never warns.

JPEG, PNG, WebP, GIF, BMP and TIFF only. Every failure is an ImageError with a stable reason.
"""

import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import Literal

import numpy as np
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from siglip_model.image_headers import CountedReader, jpeg_scans, tiff_shape

Reason = Literal[
    "IMAGE_EMPTY",
    "IMAGE_FORMAT_REFUSED",
    "IMAGE_TOO_LARGE",
    "IMAGE_TOO_MANY_PIXELS",
    "IMAGE_TRUNCATED",
    "IMAGE_UNREADABLE",
]


class ImageError(ValueError):
    """One picture cannot be used; `reason` is stable and for programs, the message for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    max_bytes: int = 16 << 20
    """Of the encoded picture."""
    max_pixels: int = 50_000_000
    """Width times height. Decoding takes 5 to 8 bytes of memory for each, for WebP 16."""
    max_side: int = 65_535
    """Width or height: resizing needs memory in proportion to the longer side."""
    max_scans: int = 100
    """Of a progressive JPEG."""
    max_scan_pixels: int = 600_000_000
    """Scans times pixels of a JPEG: each scan costs a pass over all pixels. Encoders make 10 or so."""
    max_exif_bytes: int = 1 << 20
    """JPEG has room for 64 kB, other formats for any number."""


# The classes are opened directly, not by Image.open: that would guess the format, apply
# Pillow's own global pixel limit, and warn about it.
_OPENERS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
FORMATS = tuple(_OPENERS)

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
}
# Known, and not decoded here: named so that the sender learns what to change.
_REFUSED_SIGNATURES = {
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"<svg": "SVG",
    b"<?xml": "SVG",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"P5": "PGM",
    b"P6": "PPM",
    b"qoif": "QOI",
    b"MM\0+": "big-endian BigTIFF",
}

# A small picture may lie in a larger tile: most writers' tiles have a fixed size.
_SMALL_TILE_PIXELS = 4096 * 4096
# Pillow reads a header's parts, and then the pixels' parts, in a few calls each.
_HEADER_READS = 5_000
_PIXEL_READS = 100_000
_BMP_RUN_LENGTHS = (1, 2)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """An encoded picture -> RGB, upright, first frame. Raises ImageError."""
    kind = _format_of(data, limits)
    _check_declared_length(data, kind)
    with _silent(), _errors_named(kind):
        tiff_piece, scans = _cut_up(data, kind)
        file = CountedReader(data, _HEADER_READS)
        image = _OPENERS[kind](file)
        _check_header(image, limits)
        _check_cost(image, kind, tiff_piece, scans, limits)
        file.reads_left = _PIXEL_READS
        image.load()
        _check_exif(image, limits)
        return _upright(_to_eight_bit_rgb(image), image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Alpha is dropped, palettes are looked up, CMYK is converted without a colour profile."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _format_of(data: bytes, limits: ImageLimits) -> str:
    if not data:
        raise ImageError("IMAGE_EMPTY", "the picture has 0 bytes")
    if len(data) > limits.max_bytes:
        raise ImageError(
            "IMAGE_TOO_LARGE", f"the picture has {len(data)} bytes, the limit is {limits.max_bytes}"
        )
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    raise _refusal(data)


def _refusal(data: bytes) -> ImageError:
    refused = next((kind for start, kind in _REFUSED_SIGNATURES.items() if data.startswith(start)), None)
    if data[4:8] == b"ftyp":
        refused = "AVIF" if data[8:12] in (b"avif", b"avis") else "HEIC or a film"
    accepted = ", ".join(FORMATS)
    if refused:
        return ImageError("IMAGE_FORMAT_REFUSED", f"{refused} is not accepted, only {accepted}")
    return ImageError("IMAGE_UNREADABLE", f"not a picture in {accepted}: it starts with {bytes(data[:8])!r}")


def _check_declared_length(data: bytes, kind: str) -> None:
    """Where Pillow would call a file that ends early unreadable, the file says how long it should be."""
    needed = 0
    if kind == "WebP":
        needed = 8 + int.from_bytes(data[4:8], "little")
    elif data[2:4] in (b"*\0", b"\0*"):  # TIFF's directory, often at the end
        needed = int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") + 2
    if len(data) < needed:
        raise ImageError("IMAGE_TRUNCATED", f"the {kind} has {len(data)} bytes and says {needed}")


def _cut_up(data: bytes, kind: str) -> tuple[int, int]:
    """Pixels of one tile or strip of a TIFF, and scans of a JPEG."""
    if kind == "JPEG":
        return 0, jpeg_scans(data)
    if kind == "TIFF":
        shape = tiff_shape(data)
        return shape.piece_pixels, shape.jpeg_scans
    return 0, 0


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    """Only the header has been read so far: nothing large is allocated before this passes."""
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError("IMAGE_UNREADABLE", f"the picture is {width} x {height}")
    if width * height > limits.max_pixels:
        raise ImageError(
            "IMAGE_TOO_MANY_PIXELS",
            f"{width} x {height} is {width * height} pixels, the limit is {limits.max_pixels}",
        )
    if max(width, height) > limits.max_side:
        raise ImageError(
            "IMAGE_TOO_MANY_PIXELS", f"{width} x {height} has a side over the limit of {limits.max_side}"
        )


def _check_cost(image: Image.Image, kind: str, tiff_piece: int, scans: int, limits: ImageLimits) -> None:
    """Refuses what costs far more memory or time than its pixels."""
    pixels = image.size[0] * image.size[1]
    if tiff_piece > max(pixels, _SMALL_TILE_PIXELS):
        raise ImageError(
            "IMAGE_TOO_MANY_PIXELS", f"a tile of the TIFF has {tiff_piece} pixels, all of it only {pixels}"
        )
    # Each scan of a JPEG inside a TIFF passes over one tile or strip.
    if kind == "JPEG" and scans > limits.max_scans:
        raise ImageError(
            "IMAGE_TOO_MANY_PIXELS", f"the JPEG has {scans} scans, the limit is {limits.max_scans}"
        )
    if scans * (tiff_piece or pixels) > limits.max_scan_pixels:
        raise ImageError(
            "IMAGE_TOO_MANY_PIXELS",
            f"{scans} JPEG scans of {tiff_piece or pixels} pixels are {scans * (tiff_piece or pixels)}, "
            f"the limit is {limits.max_scan_pixels}",
        )
    # Pillow's decoder for these is Python, and slow enough that 30 kB keep a server busy for seconds.
    if kind == "BMP" and image.info.get("compression") in _BMP_RUN_LENGTHS:
        raise ImageError(
            "IMAGE_FORMAT_REFUSED", "BMP compressed by run lengths is not accepted: save it uncompressed"
        )


def _check_exif(image: Image.Image, limits: ImageLimits) -> None:
    """PNG may hold the block after the pixels; reading its orientation unpacks as much as it says."""
    size = max(len(image.info.get(name) or b"") for name in ("exif", "Raw profile type exif"))
    if size > limits.max_exif_bytes:
        raise ImageError(
            "IMAGE_TOO_LARGE", f"the EXIF block has {size} bytes, the limit is {limits.max_exif_bytes}"
        )


def _to_eight_bit_rgb(image: Image.Image) -> Image.Image:
    """Like `to_rgb`, with 16-bit grey scaled to 8 bits, which Pillow would clip to white."""
    # It would only be rewritten for the new mode, with a warning; alpha is dropped anyway.
    image.info.pop("transparency", None)
    if image.mode.startswith("I;16") or (image.mode == "I" and _is_16_bit(image)):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            "IMAGE_FORMAT_REFUSED",
            "grey values of 32 bits have no agreed white: convert the picture to 8 or 16 bits",
        )
    if image.mode in ("RGBa", "La"):
        return image.convert("RGBA" if image.mode == "RGBa" else "LA").convert("RGB")
    return to_rgb(image)


def _is_16_bit(image: Image.Image) -> bool:
    low, high = image.getextrema()
    return isinstance(low, int | float) and isinstance(high, int | float) and low >= 0 and high <= 65_535


def _upright(image: Image.Image, source: Image.Image) -> Image.Image:
    method = _UPRIGHT.get(_orientation(source))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    """1 to 8; pixels may be fine where the EXIF block is not."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever a damaged block makes Pillow raise
        return 1


_DECODER_NUMBER = re.compile(r"decoder error -?\d+")


@contextmanager
def _errors_named(kind: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("IMAGE_TOO_MANY_PIXELS", str(error)) from None
    except Exception as error:  # hostile bytes make Pillow raise almost anything
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise ImageError("IMAGE_TRUNCATED", f"the {kind} ends too early: {error}") from None
        raise ImageError("IMAGE_UNREADABLE", f"the {kind} cannot be decoded: {_for_people(error)}") from None


def _for_people(error: Exception) -> str:
    """Pillow's words, unless they speak of its insides."""
    if struct.error in (type(error), type(error.__cause__)):
        return "a part of its header is too short"
    if _DECODER_NUMBER.fullmatch(str(error)):
        return "its pixels are damaged"
    return str(error)


_silent_lock = Lock()
_silent_threads = 0
_silent_filters: AbstractContextManager[object] | None = None


@contextmanager
def _silent() -> Iterator[None]:
    """Pillow warns about odd metadata, once per odd picture: noise that strangers would control.

    `catch_warnings` alone is unsafe with threads: the last of them could restore the filters of
    the first. Here the first thread in saves them and the last one out restores them.
    """
    if getattr(sys.flags, "context_aware_warnings", False):  # each thread has filters of its own
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
        return
    global _silent_threads, _silent_filters
    with _silent_lock:
        _silent_threads += 1
        if _silent_threads == 1:
            _silent_filters = warnings.catch_warnings()
            _silent_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    finally:
        with _silent_lock:
            _silent_threads -= 1
            if _silent_threads == 0 and _silent_filters is not None:
                _silent_filters.__exit__(None, None, None)
