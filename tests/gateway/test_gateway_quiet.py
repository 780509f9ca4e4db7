import pytest

from gateway.quiet import silence_libtiff
from siglip_model.image_processing import ImageError, ImageLimits, decode
from tests.support.pictures import encoded, scene


def test_libtiff_writes_no_lines_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(scene(), "TIFF", compression="tiff_adobe_deflate"))
    data[8:4000] = b"\xff" * (4000 - 8)
    silence_libtiff()
    with pytest.raises(ImageError):
        decode(bytes(data), ImageLimits(), (32, 32))
    assert capfd.readouterr().err == ""
