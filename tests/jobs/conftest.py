from collections.abc import Iterator
from pathlib import Path

import pytest

from siglip_client import Client
from tests.client.gateway_process import gateway_process
from tests.gateway.rig import picture
from tests.support.pictures import scene, with_orientation


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as address:
        yield address


@pytest.fixture
def client(gateway: str) -> Iterator[Client]:
    with Client(gateway) as client:
        yield client


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eleven pictures of several sizes and kinds, one on its side, and two files that are none."""
    folder = tmp_path / "photos"
    for number in range(10):
        path = folder / ("deep" if number % 3 else ".") / f"{number}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, (30 + 7 * number, 40), "PNG" if number % 2 else "JPEG"))
    (folder / "4.jpg").write_bytes(with_orientation(scene(60, 40), "JPEG", 6))
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "none.jpg").write_bytes(b"")
    return folder
