"""Images of every form become bytes that decode to the same pixels."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siglip_client.images import ImageLike, to_bytes

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_encoded_bytes_pass_through(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"any bytes")
    with path.open("rb") as file:
        forms: list[ImageLike] = [
            b"any bytes",
            bytearray(b"any bytes"),
            memoryview(b"any bytes"),
            path,
            str(path),
            file,
        ]
        assert [to_bytes(form) for form in forms] == [b"any bytes"] * 6


def test_arrays_are_sent_without_loss() -> None:
    np.testing.assert_array_equal(pixels_of(to_bytes(PIXELS)), PIXELS)
    turned = PIXELS[::-1, ::2]  # not contiguous
    np.testing.assert_array_equal(pixels_of(to_bytes(turned)), turned)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV"])
def test_pillow_images_of_every_mode_keep_their_pixels(mode: str) -> None:
    source = Image.fromarray(PIXELS)
    image = source.convert("I").convert("I;16") if mode == "I;16" else source.convert(mode)
    sent = Image.open(io.BytesIO(to_bytes(image)))
    expected = image if sent.mode == image.mode else image.convert("RGB")
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(expected))


def test_a_pillow_image_is_its_pixels_whatever_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", exif=exif)
    image = Image.open(buffer)
    assert image.getexif()[0x0112] == 6
    assert 0x0112 not in Image.open(io.BytesIO(to_bytes(image))).getexif()


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (PIXELS.astype(np.float32), r"not float32 \[9, 7, 3\]"),
        (PIXELS[..., 0], r"not uint8 \[9, 7\]"),
        (PIXELS.transpose(2, 0, 1), r"not uint8 \[3, 9, 7\]"),
        (PIXELS[:0], r"not uint8 \[0, 7, 3\]"),
    ],
)
def test_arrays_of_other_shapes_and_types_are_refused(array: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        to_bytes(array)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(TypeError, match="an image cannot be a list; give bytes, a path"):
        to_bytes([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="binary mode"):
        to_bytes(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode F"):
        to_bytes(Image.fromarray(PIXELS).convert("F"))


def test_arrays_need_pillow_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="needs Pillow: pip install pillow"):
        to_bytes(PIXELS)
