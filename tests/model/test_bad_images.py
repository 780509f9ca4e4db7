"""Pictures that strangers send: the right pixels, or a named error, and nothing else happens."""

import io
import struct
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from siglip_model.image_processing import ImageError, ImageLimits, channels_first, decode
from tests.support.pictures import encoded, png_16_bit, png_header, scene, with_orientation

LIMITS = ImageLimits()
SIZE = (32, 48)
KINDS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("PNG", {"interlace": 1}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
]


def expected(image: Image.Image) -> np.ndarray:
    return channels_first(image.convert("RGB").resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC))


def reason(data: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, limits, SIZE)
    assert "\n" not in caught.value.message
    assert str(caught.value) == caught.value.message
    return caught.value.reason


@pytest.mark.parametrize(("format", "options"), KINDS)
def test_every_format_gives_what_pillow_gives(format: str, options: dict[str, object]) -> None:
    data = encoded(scene(), format, **options)
    pixels = decode(data, LIMITS, SIZE)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *SIZE)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(("format", "options"), KINDS)
@pytest.mark.parametrize("kept", [0.97, 0.5, 0.1])
def test_a_file_that_ends_early(format: str, options: dict[str, object], kept: float) -> None:
    data = encoded(scene(), format, **options)
    # libtiff's messages say nothing of an end, when the directory is whole and the pixels are not.
    vague = {"IMAGE_UNREADABLE"} if "compression" in options and kept > 0.9 else set()
    assert reason(data[: int(len(data) * kept)]) in {"IMAGE_TRUNCATED"} | vague


@pytest.mark.parametrize(("format", "options"), KINDS)
def test_any_damage_is_an_image_error_or_a_picture(format: str, options: dict[str, object]) -> None:
    whole = encoded(scene(40, 30), format, **options)
    draw = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(draw.integers(1, 8)):
            data[draw.integers(3, min(len(data), 400))] = draw.integers(0, 256)
        cut = len(data) if draw.random() < 0.7 else int(draw.integers(1, len(data)))
        try:
            assert decode(bytes(data[:cut]), LIMITS, SIZE).shape == (3, *SIZE)
            outcomes.add("picture")
        except ImageError as error:
            outcomes.add(error.reason)
    assert len(outcomes) > 1  # some of it really was damage


def test_no_bytes() -> None:
    assert reason(b"") == "IMAGE_EMPTY"


@pytest.mark.parametrize(
    "data", [b"hello, this is a text file named .jpg\n" * 9, b"\0" * 99, b"\xff", b"\xff\xd8"]
)
def test_not_a_picture(data: bytes) -> None:
    assert reason(data) == "IMAGE_UNREADABLE"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7 ...", "PDF"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"\0\0\0\x1cftypavif....", "AVIF"),
        (b"\0\0\0\x1cftypheic....", "HEIC"),
        (encoded(scene(), "PPM"), "PPM"),
        (encoded(scene(), "ICO"), "ICO"),
        (encoded(scene(), "JPEG2000"), "JPEG 2000"),
    ],
)
def test_a_format_that_is_not_accepted_is_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=name) as caught:
        decode(data, LIMITS, SIZE)
    assert caught.value.reason == "IMAGE_FORMAT_REFUSED"
    assert "JPEG, PNG" in caught.value.message


def test_too_many_bytes_name_limit_and_value() -> None:
    data = encoded(scene(), "PNG")
    limits = ImageLimits(max_bytes=1000)
    assert reason(data, limits) == "IMAGE_TOO_LARGE"
    with pytest.raises(ImageError, match=rf"{len(data)} bytes, the limit is 1000"):
        decode(data, limits, SIZE)


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (50_000, 50_000), (65_535, 1000)])
def test_a_huge_header_is_refused_before_any_pixel(width: int, height: int) -> None:
    data = png_header(width, height)
    tracemalloc.start()
    assert reason(data) == "IMAGE_TOO_MANY_PIXELS"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    with pytest.raises(ImageError, match=f"{width} x {height} is {width * height} pixels"):
        decode(data, LIMITS, SIZE)


def test_huge_headers_of_other_formats() -> None:
    gif = bytearray(encoded(scene(8, 8), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    bmp = bytearray(encoded(scene(8, 8), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    jpeg = bytearray(encoded(scene(8, 8), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    webp = bytearray(encoded(scene(8, 8), "WEBP", save_all=True, append_images=[scene(8, 8, seed=1)]))
    at = webp.index(b"VP8X") + 12
    webp[at : at + 6] = b"\xff\x3f\x00" * 2  # 16384 x 16384
    for data in (gif, bmp, jpeg, webp):
        assert reason(bytes(data)) == "IMAGE_TOO_MANY_PIXELS"


def test_the_limits_are_inclusive() -> None:
    data = encoded(scene(20, 10), "PNG")
    limits = ImageLimits(max_bytes=len(data), max_pixels=200, max_side=20)
    assert decode(data, limits, SIZE).shape == (3, *SIZE)
    assert reason(data, ImageLimits(max_pixels=199)) == "IMAGE_TOO_MANY_PIXELS"
    assert reason(data, ImageLimits(max_side=19)) == "IMAGE_TOO_MANY_PIXELS"
    assert reason(data, ImageLimits(max_bytes=len(data) - 1)) == "IMAGE_TOO_LARGE"


def test_a_thin_picture_of_a_million_pixels_length_is_refused() -> None:
    assert reason(png_header(1_000_000, 1)) == "IMAGE_TOO_MANY_PIXELS"


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = encoded(scene(), "JPEG", progressive=True)
    assert 1 < data.count(b"\xff\xda") < LIMITS.max_scans
    start = data.index(b"\xff\xda")
    bomb = data[:start] + data[start : data.index(b"\xff\xda", start + 2)] * 200 + data[start:]
    assert reason(bomb) == "IMAGE_TOO_MANY_PIXELS"


@pytest.mark.parametrize(("format", "options"), KINDS)
def test_our_limit_counts_and_not_pillow_s(
    format: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application's own setting of Pillow is neither obeyed, warned about nor changed."""
    data = encoded(scene(), format, **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 160 * 120 - 1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert decode(data, LIMITS, SIZE).shape == (3, *SIZE)
    assert seen == []
    assert Image.MAX_IMAGE_PIXELS == 160 * 120 - 1


def test_nothing_global_changes_and_no_warning_leaks() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    palette = scene().quantize(16)
    odd = [encoded(palette, "PNG", transparency=bytes(range(16))), broken_exif(), encoded(scene(), "JPEG")]
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(lambda data: decode(data, LIMITS, SIZE), odd * 30):
            assert pixels.shape == (3, *SIZE)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def broken_exif() -> bytes:
    """An EXIF block whose one entry points far outside of it: Pillow warns about it."""
    entry = struct.pack("<HHII", 0x010F, 2, 5000, 70_000)
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + b"\0\0\0\0"
    data = encoded(scene(), "JPEG", exif=block)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).getexif()
    assert seen, "this picture was meant to make Pillow warn"
    return data


def test_damaged_exif_leaves_the_picture_as_it_lies() -> None:
    data = broken_exif()
    np.testing.assert_array_equal(decode(data, LIMITS, SIZE), decode(encoded(scene(), "JPEG"), LIMITS, SIZE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_exif_orientation(format: str, options: dict[str, object], orientation: int) -> None:
    data = with_orientation(scene(), format, orientation, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, LIMITS, SIZE), expected(upright))
    if orientation in (2, 3, 4):
        lying = expected(Image.open(io.BytesIO(encoded(scene(), format, **options))))
        assert (decode(data, LIMITS, SIZE) != lying).any()


def test_orientation_in_xmp_counts_as_well() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded(scene(), "JPEG", xmp=xmp)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert turned.size == (120, 160)
    np.testing.assert_array_equal(decode(data, LIMITS, SIZE), expected(turned))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [scene(seed=seed) for seed in range(3)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(gif)).n_frames == 3
    np.testing.assert_array_equal(decode(gif, LIMITS, SIZE), expected(Image.open(io.BytesIO(gif))))
    webp = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode(webp, LIMITS, SIZE), expected(frames[0]))
    tiff = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(tiff, LIMITS, SIZE), expected(frames[0]))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_and_not_clipped_to_white(format: str) -> None:
    grey = scene().convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 256 + 255
    data = encoded(Image.fromarray(deep), format)
    assert Image.open(io.BytesIO(data)).mode.startswith("I;16")
    np.testing.assert_array_equal(decode(data, LIMITS, SIZE), expected(grey))


def test_colour_of_16_bits_is_scaled() -> None:
    deep = np.asarray(scene()).astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(decode(png_16_bit(deep), LIMITS, SIZE), expected(scene()))


def test_grey_of_32_bits_has_no_white() -> None:
    wide = Image.fromarray(np.full((8, 8), 1_000_000, np.int32))
    assert reason(encoded(wide, "TIFF")) == "IMAGE_FORMAT_REFUSED"
    floats = Image.fromarray(np.full((8, 8), 0.5, np.float32))
    assert reason(encoded(floats, "TIFF")) == "IMAGE_FORMAT_REFUSED"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_png(mode: str) -> None:
    image = scene().convert(mode)
    data = encoded(image, "PNG")
    np.testing.assert_array_equal(decode(data, LIMITS, SIZE), expected(image))


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_dropped(alpha: int) -> None:
    see_through = scene().convert("RGBA")
    see_through.putalpha(alpha)
    for format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(encoded(see_through, format), LIMITS, SIZE), expected(scene()))


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 160, 10))])
def test_a_palette_is_looked_up_and_its_transparency_dropped(transparency: int | bytes) -> None:
    image = scene().quantize(16)
    data = encoded(image, "PNG", transparency=transparency)
    np.testing.assert_array_equal(decode(data, LIMITS, SIZE), expected(image))
    gif = encoded(image, "GIF", transparency=3)
    np.testing.assert_array_equal(decode(gif, LIMITS, SIZE), expected(image))


def test_cmyk() -> None:
    """Pillow writes CMYK JPEGs inverted, with Adobe's marker, and reads them back the right way."""
    data = encoded(scene().convert("CMYK"), "JPEG", quality=95)
    opened = Image.open(io.BytesIO(data))
    assert opened.mode == "CMYK"
    assert b"Adobe" in data[:64]
    pixels = decode(data, LIMITS, SIZE)
    np.testing.assert_array_equal(pixels, expected(opened))
    assert np.abs(pixels.astype(int) - expected(scene())).mean() < 6
    np.testing.assert_array_equal(
        decode(encoded(scene().convert("CMYK"), "TIFF"), LIMITS, SIZE), expected(scene().convert("CMYK"))
    )


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (50, 1), (3, 3), (2000, 3), (3, 2000)])
def test_thin_pictures(width: int, height: int) -> None:
    image = scene(width, height)
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), LIMITS, SIZE), expected(image))


def test_the_resample_filter_counts() -> None:
    data = encoded(scene(), "PNG")
    bilinear = decode(data, LIMITS, SIZE, resample=Image.Resampling.BILINEAR)
    assert (bilinear != decode(data, LIMITS, SIZE)).any()


def test_decoding_in_threads_gives_the_same() -> None:
    data = [encoded(scene(seed=seed), "JPEG") for seed in range(8)]
    alone = [decode(one, LIMITS, SIZE) for one in data]
    barrier = threading.Barrier(8)

    def together(one: bytes) -> np.ndarray:
        barrier.wait()
        return decode(one, LIMITS, SIZE)

    with ThreadPoolExecutor(8) as pool:
        for mine, theirs in zip(pool.map(together, data), alone, strict=True):
            np.testing.assert_array_equal(mine, theirs)
