"""Small files made to cost much memory or time: refused before anything is decoded."""

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from siglip_model.image_headers import jpeg_scans
from siglip_model.image_processing import ImageError, ImageLimits, decode
from tests.support.pictures import encoded, scene

LIMITS = ImageLimits()
SIZE = (32, 48)
REFUSAL_S = 2.0  # a hundred times what it takes, a fraction of what decoding these would take


def refused(data: bytes, limits: ImageLimits = LIMITS) -> ImageError:
    start = time.perf_counter()
    with pytest.raises(ImageError) as caught:
        decode(data, limits, SIZE)
    assert time.perf_counter() - start < REFUSAL_S
    return caught.value


def tiff(tags: dict[int, tuple[int, int | list[int]]], payload: bytes = b"", *, big: bool = False) -> bytes:
    """`tags`: kind (3: 16 bits, 4: 32 bits) and value; -1 is the position of the payload."""
    codes = {3: "H", 4: "I"}
    entry, room = (20, 8) if big else (12, 4)
    start = 16 if big else 8
    end = start + (8 if big else 2) + len(tags) * entry + (8 if big else 4)
    rows, beyond = b"", b""
    sizes = [len(v) * (2 if kind == 3 else 4) for kind, v in tags.values() if isinstance(v, list)]
    at_payload = end + sum(size for size in sizes if size > room)
    for tag, (kind, value) in sorted(tags.items()):
        values = value if isinstance(value, list) else [at_payload if value == -1 else value]
        raw = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        if len(raw) > room:
            beyond += raw
            raw = struct.pack("<Q" if big else "<I", end + len(beyond) - len(raw))
        rows += struct.pack("<HHQ" if big else "<HHI", tag, kind, len(values)) + raw.ljust(room, b"\0")
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    count, last = (
        (struct.pack("<Q", len(tags)), bytes(8)) if big else (struct.pack("<H", len(tags)), bytes(4))
    )
    return head + count + rows + last + beyond + payload


def tiled(side: int, tile: int, *, big: bool = False, kind: int = 4) -> bytes:
    payload = zlib.compress(bytes(tile * tile * 3) if tile < 5000 else bytes(1000))
    tags = {
        256: (4, side),
        257: (4, side),
        258: (3, [8, 8, 8]),
        259: (3, 8),
        262: (3, 2),
        277: (3, 3),
        322: (kind, tile),
        323: (kind, tile),
        324: (4, -1),
        325: (4, len(payload)),
    }
    return tiff(tags, payload, big=big)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", [3, 4])
def test_a_tile_far_larger_than_the_picture(big: bool, kind: int) -> None:
    error = refused(tiled(16, 26_000, big=big, kind=kind))
    assert error.reason == "IMAGE_TOO_MANY_PIXELS"
    assert "a tile of the TIFF has 676000000 pixels, all of it only 256" in error.message


@pytest.mark.parametrize("big", [False, True])
def test_a_small_picture_in_a_usual_tile(big: bool) -> None:
    assert not decode(tiled(16, 512, big=big), LIMITS, SIZE).any()


def test_a_tile_s_side_must_be_a_number() -> None:
    data = tiled(16, 512)
    at = data.index(struct.pack("<HHI", 322, 4, 1))
    for entry in (struct.pack("<HHI", 322, 9, 1), struct.pack("<HHI", 322, 4, 2)):
        assert "tag 322" in refused(data[:at] + entry + data[at + 8 :]).message


@pytest.mark.parametrize("tag", [273, 282])
def test_a_tiff_tag_of_very_many_values(tag: int) -> None:
    """Pillow would make an object of each, of each strip even several."""
    tags = {256: (4, 7000), 257: (4, 7000), 258: (3, 8), 262: (3, 1), 277: (3, 1), 278: (4, 1), tag: (4, [8])}
    data = bytearray(tiff(tags) + bytes(4 << 20))
    at = data.index(struct.pack("<HHI", tag, 4, 1))
    kind = 1 if tag == 273 else 5
    struct.pack_into(
        "<HHII", data, at, tag, kind, (4 << 20) // (1 if tag == 273 else 8), len(data) - (4 << 20)
    )
    assert f"tag {tag} has" in refused(bytes(data)).message


def test_bigtiff_of_the_other_byte_order_is_refused_by_name() -> None:
    assert "big-endian BigTIFF" in refused(b"MM\0+\0\x08\0\0" + bytes(64)).message


def run_lengths(width: int, height: int, compression: int, pixels: bytes) -> bytes:
    bits = {1: 8, 2: 4}[compression]
    palette = bytes(4 << bits)
    start = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, 1 << bits, 0
    )
    return head + info + palette + pixels


@pytest.mark.parametrize("compression", [1, 2])
def test_bmp_compressed_by_run_lengths(compression: int) -> None:
    error = refused(run_lengths(7000, 7000, compression, b"\x01\x01\0\0" * 7000 + b"\0\1"))
    assert error.reason == "IMAGE_FORMAT_REFUSED"
    assert "save it uncompressed" in error.message


def progressive(side: int, scans: int) -> bytes:
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    return data[:-2] + data[starts[-1] : -2] * (scans - len(starts)) + b"\xff\xd9"


def test_scans_times_pixels_of_a_jpeg() -> None:
    assert jpeg_scans(progressive(64, 95)) == 95
    error = refused(progressive(4000, 95))
    assert error.reason == "IMAGE_TOO_MANY_PIXELS"
    assert "95 JPEG scans of 16000000 pixels are 1520000000, the limit is 600000000" in error.message
    decode(progressive(200, 95), LIMITS, SIZE)
    data = encoded(scene(), "JPEG", progressive=True)
    allowed = ImageLimits(max_scan_pixels=jpeg_scans(data) * 160 * 120)
    decode(data, allowed, SIZE)
    refused(data, ImageLimits(max_scan_pixels=allowed.max_scan_pixels - 1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_scans_are_those_of_the_picture_only(options: dict[str, object]) -> None:
    """Neither of a thumbnail in its EXIF block nor of the film that phones put behind it."""
    plain = encoded(scene(), "JPEG", **options)
    with_thumbnail = encoded(scene(), "JPEG", exif=b"Exif\0\0" + encoded(scene(16, 16), "JPEG"), **options)
    film = b"\0\2" + b"\xff\xda\0\2" * 500
    assert jpeg_scans(plain) == jpeg_scans(with_thumbnail + film) == (10 if "progressive" in options else 1)
    np.testing.assert_array_equal(decode(plain + film, LIMITS, SIZE), decode(plain, LIMITS, SIZE))


def test_an_end_marker_in_a_comment_hides_no_scans() -> None:
    data = progressive(4000, 95)
    at = data.rindex(b"\xff\xda", 0, len(data) // 2)
    comment = b"\xff\xfe\0\x04\xff\xd9"
    assert jpeg_scans(data[:at] + comment + data[at:]) == 95


def test_scans_of_a_jpeg_in_a_tiff() -> None:
    stream = progressive(64, 95)
    tags = {256: (4, 8000), 257: (4, 6000), 258: (3, 8), 259: (3, 7), 262: (3, 1), 273: (4, -1), 277: (3, 1)}
    error = refused(tiff(tags | {279: (4, len(stream))}, stream))
    assert "95 JPEG scans of 48000000 pixels" in error.message
    decode(encoded(scene(), "TIFF", compression="jpeg"), ImageLimits(max_scan_pixels=160 * 120 * 2), SIZE)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_png_of_very_many_chunks(before: bytes) -> None:
    data = encoded(scene(8, 8), "PNG")
    at = data.index(before) - 4
    texts = b"".join(chunk(b"tEXt", b"k%d\0v" % number) for number in range(200_000))
    assert "many small parts" in refused(data[:at] + texts + data[at:]).message
    few = b"".join(chunk(b"tEXt", b"k%d\0v" % number) for number in range(500))
    np.testing.assert_array_equal(
        decode(data[:at] + few + data[at:], LIMITS, SIZE), decode(data, LIMITS, SIZE)
    )


def test_a_gif_and_a_jpeg_of_very_many_parts() -> None:
    gif = encoded(scene(8, 8), "GIF")
    at = gif.index(b",", 13 + 3 * (2 << (gif[10] & 7)))
    assert (
        "many small parts" in refused(gif[:at] + b"!\xfe" + b"\x01a" * 1_000_000 + b"\0" + gif[at:]).message
    )
    jpeg = encoded(scene(8, 8), "JPEG")
    assert "segments" in refused(jpeg[:2] + b"\xff\xfe\0\2" * 1_000_000 + jpeg[2:]).message
    assert "many small parts" in refused(jpeg[:20] + b"\0" * 4_000_000 + jpeg[20:]).message


def test_pixels_of_a_png_may_lie_in_small_chunks() -> None:
    data = encoded(scene(400, 300), "PNG")
    start, end = data.index(b"IDAT") - 4, data.rindex(b"IEND") - 4
    stream, at = b"", start
    while at < end:
        length = int.from_bytes(data[at : at + 4], "big")
        stream += data[at + 8 : at + 8 + length]
        at += length + 12
    small = b"".join(chunk(b"IDAT", stream[i : i + 256]) for i in range(0, len(stream), 256))
    np.testing.assert_array_equal(
        decode(data[:start] + small + data[end:], LIMITS, SIZE), decode(data, LIMITS, SIZE)
    )


def test_an_exif_block_of_megabytes() -> None:
    """Its orientation may say that it is a million fractions."""
    count = 200_000
    block = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 5, count, 26) + bytes(4) + bytes(8 * count)
    error = refused(encoded(scene(), "PNG", exif=block))
    assert error.reason == "IMAGE_TOO_LARGE"
    assert "bytes, the limit is 1048576" in error.message


DAMAGED = tiled(16, 512)[:-700] + b"\xff" * 700


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xd8\xff\xe0", "the JPEG cannot be decoded: a part of its header is too short"),
        (DAMAGED, "the TIFF cannot be decoded: its pixels are damaged"),
    ],
)
def test_messages_are_for_people(data: bytes, words: str) -> None:
    assert refused(data).message == words
