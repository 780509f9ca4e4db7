"""One picture from wherever a caller has it, upright and in RGB, as the pipelines take it. No torch."""

import base64
import binascii
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from siglip_model.image_decoding import ImageLimits, open_image, to_rgb

URL_SCHEMES = ("http://", "https://")
LIMITS = ImageLimits()
SHOWN = 60  # characters of a wrong source in an error message


def load_image(
    image: Any,
    timeout: float | None = None,
    *,
    allow_urls: bool = False,
    limits: ImageLimits = LIMITS,
) -> Image.Image:
    """A Pillow image, a path, a URL, base64 (plain or as a `data:` URI) or encoded bytes -> RGB.

    It is turned as its EXIF orientation says; alpha is dropped; of a film the first frame counts.
    16-bit grey is scaled to 8 bits, which the reference clips to white.

    allow_urls: a string may be an http or https address, which is then fetched within `timeout`
        seconds (30 when None). Whoever writes the string chooses the address, also one inside
        your network, and learns from errors what is there: off unless asked for.
    limits: of bytes from a URL, base64 or `bytes`. A file is opened by Pillow as it is, in any of
        its formats: never pass on a string from strangers, it can name any file.

    Raises ValueError (ImageError for a damaged picture), OSError for an unreachable one.
    """
    if isinstance(image, Image.Image):
        return _upright(image)
    if isinstance(image, bytes | bytearray):
        return open_image(bytes(image), limits)
    if isinstance(image, str) and image.startswith(URL_SCHEMES):
        return open_image(_fetched(image, timeout, allow_urls, limits), limits)
    if isinstance(image, Path) or (isinstance(image, str) and os.path.isfile(image)):  # noqa: PTH113  # Path.is_file raises for long base64
        with Image.open(image) as file:
            return _upright(file)
    if isinstance(image, str):
        return open_image(_from_base64(image), limits)
    raise TypeError(
        f"an image must be a Pillow image, a path, a URL, base64 or encoded bytes, not {type(image).__name__}"
    )


def _upright(image: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I;16"):
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return to_rgb(turned)


def _fetched(url: str, timeout: float | None, allow_urls: bool, limits: ImageLimits) -> bytes:
    if not allow_urls:
        raise ValueError(f"{_shown(url)} is a URL: set allow_urls=True to have pictures fetched")
    from siglip_model.image_download import SECONDS, download  # only here is a network library needed

    return download(url, max_bytes=limits.max_bytes, timeout_s=SECONDS if timeout is None else timeout)


def _from_base64(text: str) -> bytes:
    """RFC 4648, with or without line breaks, in the alphabet for URLs as well."""
    body = text
    if text.startswith("data:"):
        head, _, body = text.partition(",")
        if not head.startswith("data:image/") or not head.endswith(";base64"):
            raise ValueError(f"a data: URI must be data:image/...;base64,..., not {_shown(text)}")
    try:
        return base64.b64decode("".join(body.split()).replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(
            f"{_shown(text)} is neither a file here, nor an http or https URL, nor base64"
        ) from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")
