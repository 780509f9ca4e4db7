"""Decoding processes that crash, hang or eat memory take one image along, and nothing else."""

import asyncio
import io
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from gateway.decode_pool import DecodePool
from gateway.decoding import DecoderSettings
from gateway.errors import ItemFailure
from gateway.helpers import DecoderFailed, Helper, Helpers
from siglip_model.image_processing import ImageError, ImageLimits, decode
from tests.cli.processes import alive
from tests.gateway.conftest import Start
from tests.gateway.rig import FakeWorker, picture
from tests.support.valkey import wait_until

SETTINGS = DecoderSettings(
    size=24, resample=3, max_bytes=1 << 20, max_pixels=1_000_000, max_memory_bytes=300 << 20
)
LIMITS = ImageLimits(max_bytes=SETTINGS.max_bytes, max_pixels=SETTINGS.max_pixels)


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    helpers = Helpers(SETTINGS, 1, timeout_s=30)
    yield helpers
    helpers.close()


def the_only(helpers: Helpers) -> Helper:
    """Idle now, and ready; put back at once."""
    helper = helpers._free.get()
    helpers._free.put(helper)
    assert helper
    helper._wait_until_ready()
    return helper


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_pixels_are_those_of_the_library(helpers: Helpers, kind: str) -> None:
    for seed in range(3):
        image = picture(seed, kind=kind)
        assert helpers(image) == decode(image, LIMITS, (24, 24)).tobytes()


def test_refusals_are_those_of_the_library(helpers: Helpers) -> None:
    large = picture(1, size=(1200, 1000))
    for image in (b"", b"no picture", picture(1)[:300], large):
        with pytest.raises(ImageError) as here:
            decode(image, LIMITS, (24, 24))
        with pytest.raises(ImageError) as there:
            helpers(image)
        assert (there.value.reason, there.value.message) == (here.value.reason, here.value.message)
    assert helpers(picture(2))


def test_a_process_that_was_killed_is_replaced_and_the_image_is_answered(helpers: Helpers) -> None:
    first = the_only(helpers).process
    first.kill()
    first.wait()
    assert helpers(picture(1))
    assert the_only(helpers).process.pid != first.pid


def test_one_that_is_killed_with_the_image_again_fails_that_image(
    helpers: Helpers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as soon as it has begun, each time."""
    start, pids = Helper.start, []

    def doomed(settings: DecoderSettings) -> Helper:
        helper = start(settings)
        pids.append(helper.process.pid)
        helper.process.kill()
        return helper

    the_only(helpers).process.kill()
    monkeypatch.setattr(Helper, "start", doomed)
    with pytest.raises(DecoderFailed, match="crashed on this image, 2 times") as error:
        helpers(picture(1))
    assert error.value.reason == "IMAGE_DECODER_CRASHED"
    monkeypatch.undo()
    assert helpers(picture(1))
    assert len(pids) == 1 and not alive(pids[0])


def test_one_that_hangs_is_replaced() -> None:
    helpers = Helpers(SETTINGS, 1, timeout_s=0.3)
    try:
        hung = the_only(helpers).process
        os.kill(hung.pid, signal.SIGSTOP)
        for image in (picture(1), bytes(3_000_000)):  # the second does not even fit into the socket
            with pytest.raises(DecoderFailed, match=r"not decoded within 0\.3 s \(max_decode_s\)"):
                helpers(image)
            if (helper := helpers._free.get()) is None:
                helper = helpers._start()
                helper._wait_until_ready()
            os.kill(helper.process.pid, signal.SIGSTOP)
            helpers._free.put(helper)
        assert not alive(hung.pid)
    finally:
        helpers.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds address space")
def test_one_that_wants_too_much_memory_says_so() -> None:
    tight = DecoderSettings(
        size=24, resample=3, max_bytes=1 << 24, max_pixels=60_000_000, max_memory_bytes=40 << 20
    )
    helpers = Helpers(tight, 1, timeout_s=60)
    file = io.BytesIO()
    Image.new("RGB", (7000, 7000), "red").save(file, "PNG")
    try:
        pid = the_only(helpers).process.pid
        with pytest.raises((DecoderFailed, ImageError)):
            helpers(file.getvalue())
        assert helpers(picture(1))
        assert the_only(helpers).process.pid == pid
    finally:
        helpers.close()


def test_neighbours_are_answered() -> None:
    """Two processes; one hangs with its image, the other goes on with all the rest."""
    helpers = Helpers(SETTINGS, 2, timeout_s=2)
    pool = DecodePool(helpers, 2, on_close=helpers.close)
    os.kill(the_only(helpers).process.pid, signal.SIGSTOP)
    rows = asyncio.run(pool.decode_all([picture(seed) for seed in range(12)]))
    failed = [row for row in rows if isinstance(row, ItemFailure)]
    assert [failure.reason for failure in failed] == ["IMAGE_DECODER_TIMEOUT"]
    good = [(seed, row) for seed, row in enumerate(rows) if isinstance(row, bytes)]
    assert all(row == decode(picture(seed), LIMITS, (24, 24)).tobytes() for seed, row in good)
    pool.close()


def test_many_threads_share_them() -> None:
    helpers = Helpers(SETTINGS, 2, timeout_s=30)
    wanted = {seed: decode(picture(seed), LIMITS, (24, 24)).tobytes() for seed in range(40)}
    with ThreadPoolExecutor(8) as threads:
        found = dict(zip(wanted, threads.map(lambda seed: helpers(picture(seed)), wanted), strict=True))
    helpers.close()
    assert found == wanted


def test_closing_leaves_no_process(helpers: Helpers) -> None:
    pid = the_only(helpers).process.pid
    helpers.close()
    helpers.close()
    assert not alive(pid)


def test_a_short_time_for_decoding_is_not_spent_on_the_start() -> None:
    helpers = Helpers(SETTINGS, 1, timeout_s=0.15)
    assert helpers(picture(1))
    helpers.close()


def test_closing_does_not_wait_for_one_that_hangs() -> None:
    helpers = Helpers(SETTINGS, 1, timeout_s=600)
    pool = DecodePool(helpers, 1, on_close=helpers.close)
    os.kill(the_only(helpers).process.pid, signal.SIGSTOP)

    async def decode_and_close() -> list[bytes | ItemFailure]:
        call = asyncio.create_task(pool.decode_all([picture(1)]))
        await asyncio.sleep(0)
        pool.close()
        return await call

    (row,) = asyncio.run(asyncio.wait_for(decode_and_close(), 20))
    assert isinstance(row, ItemFailure) and "stopping" in row.message


def test_they_know_no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGLIP_REDIS_URL", "redis://user:secret@host")
    monkeypatch.setenv("HF_TOKEN", "secret")
    helpers = Helpers(SETTINGS, 1, timeout_s=30)
    environ = Path(f"/proc/{the_only(helpers).process.pid}/environ")
    assert not environ.exists() or (b"secret" not in (read := environ.read_bytes()) and b"PATH=" in read)
    helpers.close()


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(0, bytes(9)), (0, bytes(3 * 24 * 24 + 1)), (1, b"{"), (1, b'["not a word", "x"]'), (9, b"")],
)
def test_answers_that_no_decoder_gives_end_it(
    helpers: Helpers, monkeypatch: pytest.MonkeyPatch, kind: int, answer: bytes
) -> None:
    spoilt = the_only(helpers)
    answers = iter([struct.pack("<BQ", kind, len(answer)), answer])
    monkeypatch.setattr(spoilt, "_receive", lambda count, end_s: next(answers))
    assert helpers(picture(1)) == decode(picture(1), LIMITS, (24, 24)).tobytes()
    assert not alive(spoilt.process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends when it next reads")
def test_one_that_loops_ends_with_the_gateway_too() -> None:
    code = (
        "import os, signal, time\n"
        "from tests.gateway.test_gateway_helpers import SETTINGS, Helpers, the_only\n"
        "pid = the_only(Helpers(SETTINGS, 1, 9)).process.pid\n"
        "os.kill(pid, signal.SIGSTOP)\n"  # it will never see that its socket is closed
        "print(pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not alive(pid))


def test_they_end_with_the_gateway(tmp_path: Path) -> None:
    """SIGKILL of the process that started them."""
    code = (
        "import os, time\n"
        "from tests.gateway.test_gateway_helpers import SETTINGS, Helpers, the_only\n"
        "helpers = Helpers(SETTINGS, 1, 9)\n"
        "print(the_only(helpers).process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    wait_until(lambda: not alive(pid))


def test_a_gateway_that_stops_early_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    """What the helper wrote is never read: its end of the line is reset."""
    helper = Helper.start(SETTINGS)
    select.select([helper.connection], [], [], 30)
    helper.connection.close()
    assert helper.process.wait(30) == 0
    assert capfd.readouterr().err == ""


def test_only_decoders_of_the_list_are_ever_loaded() -> None:
    """Pillow has some fifty; what a process never loads, no picture can reach."""
    code = (
        "import sys\n"
        "from gateway.decode_helper import DecoderSettings, ImageLimits, answer_to\n"
        "settings = DecoderSettings(24, 3, 1 << 20, 1_000_000, 1 << 28)\n"
        "kinds = [answer_to(bytes.fromhex(word), ImageLimits(), settings)[0] for word in sys.argv[1:]]\n"
        "print(kinds, *sorted(name for name in sys.modules if name.endswith('ImagePlugin')))\n"
    )
    # PostScript, Photoshop, an icon: formats that Pillow would take by itself.
    images = [b"%!PS-Adobe-3.0 EPSF-3.0", b"8BPS" + bytes(40), b"\0\0\1\0" + bytes(40), picture(1)]
    command = [sys.executable, "-c", code, *(image.hex() for image in images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kinds, _, names = done.stdout.partition("] ")
    assert kinds == "[1, 1, 1, 0"
    loaded = {name.removeprefix("PIL.").removesuffix("ImagePlugin") for name in names.split()}
    assert loaded <= {"Bmp", "Gif", "Jpeg", "Mpo", "Png", "Tiff", "WebP"}


@pytest.mark.asyncio(loop_scope="session")
async def test_a_gateway_goes_on_without_its_decoders(
    start: Start, vision_worker: FakeWorker, text_worker: FakeWorker
) -> None:
    """All of them are killed in the middle of calls, again and again."""
    from siglip_client import AsyncClient

    async with start(decode_processes=2) as served:
        helpers = served.gateway.parts.embedder._decoders._decode
        assert isinstance(helpers, Helpers)
        async with AsyncClient(f"127.0.0.1:{served.gateway.port}") as client:
            for turn in range(4):
                calls = [client.embed_images([picture(turn * 9 + n) for n in range(6)]) for _ in range(3)]
                running = [asyncio.create_task(call) for call in calls]
                helper = helpers._free.get() if turn % 2 else None
                if helper is not None:
                    helper.process.kill()
                if turn % 2:
                    helpers._free.put(helper)
                for done in await asyncio.gather(*running):
                    assert len(done) == 6
            assert len(await client.embed_texts(["a cat"])) == 1
