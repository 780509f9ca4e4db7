"""load_image: one picture from a path, an address, base64, bytes or Pillow, upright and in RGB."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image as load_reference

from siglip_model import ImageError, ImageLimits, load_image, pipeline
from tests.model.conftest import Equal
from tests.support.pictures import encoded, scene, with_orientation

pytestmark = pytest.mark.parity(row="Pipeline")

PNG = encoded(scene(), "PNG")


class Site(BaseHTTPRequestHandler):
    """A web server with one picture, and the ways in which an address can go wrong."""

    agents: list[str | None]
    released: threading.Event

    def do_GET(self) -> None:
        type(self).agents.append(self.headers["User-Agent"])
        path, _, target = self.path.partition("?")
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
        elif path in ("/picture", "/stalled"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(PNG)))
            self.end_headers()
            if path == "/stalled":
                self.wfile.write(PNG[:100])
                type(self).released.wait()
            else:
                self.wfile.write(PNG)
        else:
            self.send_error(404)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.agents, Site.released = [], threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Site.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation(tmp_path: Path, format: str, orientation: int, equal: Equal) -> None:
    path = tmp_path / "picture"
    path.write_bytes(with_orientation(scene(40, 30), format, orientation))
    wanted = np.asarray(load_reference(str(path)))
    for given in (path, str(path), path.read_bytes(), Image.open(path)):
        equal("upright pixels", np.asarray(load_image(given)), wanted)
    assert wanted.shape == ((30, 40, 3) if orientation < 5 else (40, 30, 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_modes(mode: str, equal: Equal) -> None:
    picture = scene().convert("RGB" if mode == "HSV" else "L" if mode in "IF" else mode).convert(mode)
    equal("pixels of modes", np.asarray(load_image(picture)), np.asarray(load_reference(picture)))


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    """The reference clips it to white."""
    grey = np.asarray(scene().convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for given in (tmp_path / "grey.png", (tmp_path / "grey.png").read_bytes(), Image.fromarray(grey)):
        np.testing.assert_array_equal(np.asarray(load_image(given))[..., 0], grey // 257)
    assert np.asarray(load_reference(str(tmp_path / "grey.png"))).mean() > 250


def test_a_given_picture_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation(scene(40, 30), "JPEG", 6))
    with Image.open(path) as given:
        assert load_image(given).size == (30, 40)
        assert (given.size, given.getexif()[0x0112]) == ((40, 30), 6)


def test_formats_of_files_and_films(tmp_path: Path) -> None:
    frames = [scene(seed=seed) for seed in range(3)]
    for name, options in (("film.gif", {"save_all": True, "append_images": frames[1:]}), ("pixels.ppm", {})):
        frames[0].save(tmp_path / name, **options)
        found = np.asarray(load_image(tmp_path / name)).astype(int)
        assert np.abs(found - np.asarray(frames[0])).mean() < 12
    text = encoded(scene(), "PPM")
    with pytest.raises(ImageError, match="PPM is not accepted"):  # of strangers only what is hardened
        load_image(text)


def test_base64(equal: Equal) -> None:
    text = base64.b64encode(PNG).decode()
    wanted = np.asarray(scene())
    for given in (
        text,
        base64.encodebytes(PNG).decode(),
        base64.urlsafe_b64encode(PNG).decode(),
        f"data:image/png;base64,{text}",
        f"data:image/jpeg;base64,{text}",
    ):
        equal("pixels from base64", np.asarray(load_image(given)), wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere/cat.jpg", "'nowhere/cat.jpg' is neither a file here, nor an http or https URL, nor base64"),
        ("cat" * 100, "'catcat.{54}...' is neither|not a picture in"),
        ("data:image/png,abc", "data:image/...;base64,"),
        ("data:text/html;base64,YWJj", "data:image/...;base64,"),
        ("ftp://example.com/cat.png", "neither a file here"),
        ("file:///etc/passwd", "neither a file here"),
        ("", "0 bytes"),
        (base64.b64encode(b"<html></html>").decode(), "not a picture"),
        (PNG[:2000], "PNG ends too early|cannot be decoded"),
        (b"", "0 bytes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_picture(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_image(given)


def test_limits_are_for_bytes_from_elsewhere() -> None:
    for given in (PNG, base64.b64encode(PNG).decode()):
        with pytest.raises(ImageError, match="the limit is 100"):
            load_image(given, limits=ImageLimits(max_bytes=100))


@pytest.mark.parametrize("given", [None, 7, np.zeros((4, 4, 3), np.uint8), ["a.jpg"]])
def test_what_is_of_no_known_type(given: Any) -> None:
    with pytest.raises(TypeError, match="an image must be"):
        load_image(given)


def test_a_url_is_fetched_only_when_allowed(site: str) -> None:
    with pytest.raises(ValueError, match="set allow_urls=True"):
        load_image(f"{site}/picture")
    assert Site.agents == []
    np.testing.assert_array_equal(np.asarray(load_image(f"{site}/picture", allow_urls=True)), scene())
    assert Site.agents == ["siglip_model"]


def test_redirects(site: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    moved = load_image(f"{site}/moved?{site}/picture", allow_urls=True)
    np.testing.assert_array_equal(np.asarray(moved), scene())
    for target in (f"file://{tmp_path}/secret.png", "ftp://127.0.0.1/a.png", "data:image/png;base64,AAAA"):
        with pytest.raises(OSError, match=r"302|unknown url type"):
            load_image(f"{site}/moved?{target}", allow_urls=True)
    with pytest.raises(HTTPError, match="infinite loop"):
        load_image(f"{site}/moved?/moved?/moved", allow_urls=True)


def test_a_download_has_limits(site: str) -> None:
    with pytest.raises(ImageError, match="more than 1000 bytes"):
        load_image(f"{site}/picture", allow_urls=True, limits=ImageLimits(max_bytes=1000))
    with pytest.raises(TimeoutError):
        load_image(f"{site}/stalled", timeout=0.2, allow_urls=True)


def test_addresses_that_do_not_answer(site: str) -> None:
    with pytest.raises(HTTPError, match="404"):
        load_image(f"{site}/nothing", allow_urls=True)
    with pytest.raises(URLError, match="refused"):
        load_image("http://127.0.0.1:1/picture", allow_urls=True)


def test_a_pipeline_fetches_when_allowed(site: str, tiny: Path) -> None:
    labels = ["a cat", "a dog"]
    wanted = pipeline(model=tiny)(scene(), labels)
    assert pipeline(model=tiny, allow_urls=True)(f"{site}/picture", labels) == wanted
    assert pipeline(model=tiny)(f"{site}/picture", labels, allow_urls=True, timeout=20) == wanted
