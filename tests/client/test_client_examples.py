"""The examples run, and leave nothing behind."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import demo, quickstart
from examples.chart import Card, draw_chart
from examples.local_service import StartFailed, local_service
from siglip_client import Classification, ImageLabels, LabelScore, ModelInfo, Timing
from siglip_search.style import fitted, font, percent
from tests.cli.processes import alive, descendants, killed_afterwards, wait_for
from tests.gateway.rig import picture
from tests.support.checkpoints import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]


# Says that it has a service, and then does nothing.
HOLDER = """
import sys, time
from pathlib import Path
from examples.local_service import local_service
with local_service(sys.argv[1], Path(sys.argv[2])) as address:
    print(address, flush=True)
    time.sleep(100)
"""


def test_quickstart(gateway_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(0))
    quickstart.main(gateway_address, str(tmp_path / "a.jpg"))
    lines = capsys.readouterr().out.splitlines()
    assert {line.split("  ")[1] for line in lines[:3]} == {
        "a red circle",
        "a blue square",
        "two yellow stars",
    }
    probabilities = [float(line.split()[0]) for line in lines[:3]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert lines[3].startswith("cosines: [[")


def test_the_demo_shows_every_picture_and_leaves_nothing(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "tiny-of-the-demo")
    samples, chart = tmp_path / "samples", tmp_path / "chart.png"
    samples.mkdir()
    for seed in range(4):
        (samples / f"picture-{seed}.jpg").write_bytes(picture(seed))
    (samples / "notes.txt").write_text("not a picture")
    command = [sys.executable, "-m", "examples.demo"]
    command += ["--model", str(model), "--samples", str(samples), "--chart", str(chart)]
    started: dict[int, str] = {}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            started |= descendants(running.pid)
            time.sleep(0.25)
        assert running.stdout is not None
        told = running.stdout.read()
    assert running.returncode == 0
    assert [told.count(f"picture-{seed}.jpg") for seed in range(4)] == [1] * 4
    assert "4 pictures, 13 labels, " in told
    for stage in ("decoding", "queueing", "computing", "scoring"):
        assert f"{stage} " in told
    with Image.open(chart) as image:
        assert image.width > 1000 and image.height > 800
    for program in ("siglip_cli serve", "gateway", "--tower text", "--tower vision", "valkey-server"):
        assert any(program in command_line for command_line in started.values())
    assert not [pid for pid in started if alive(pid)]
    assert [path.name for path in demo.RUN_FOLDER.iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_the_service_ends_with_the_program_even_if_that_is_killed(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "tiny")
    command = [sys.executable, "-c", HOLDER, str(model), str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("127.0.0.1:")
        started = set(descendants(running.pid))
        assert len(started) >= 5
        with killed_afterwards(started):
            running.kill()
            wait_for(lambda: not any(alive(pid) for pid in started), 10)


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(StartFailed, match=r"the service did not start; .*service\.log:\n.*no-such-folder"),
        local_service("/no-such-folder", tmp_path),
    ):
        raise AssertionError("it started")


def test_a_demo_that_cannot_write_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").touch()
    monkeypatch.setattr(demo, "RUN_FOLDER", tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["demo"])
    assert demo.main() == 1
    assert capsys.readouterr().err == f"demo failed: [Errno 17] File exists: '{tmp_path / 'run'}'\n"


def test_table_and_summary_of_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    labels = tuple(LabelScore(f"label {i}", i, p, 0, 0) for i, p in enumerate((0.75, 0.0004, 0.0001, 0.0)))
    found = Classification(
        images=(ImageLabels(0, labels),),
        errors=(),
        logit_scale=1,
        logit_bias=0,
        model=ModelInfo("m", "", "f"),
        timing=Timing(decode_us=1500, queue_us=200, compute_us=3000, score_us=100, total_us=5000),
    )
    demo.print_table([Path("a.jpg")], found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == demo.SHOWN
    assert lines[0] == f"a.jpg   75.0 %  {'█' * 18}{' ' * 6}  label 0"
    assert "< 0.1 %" in lines[1]
    assert demo.summary(found) == (
        "1 pictures, 13 labels, 5.0 ms: decoding 1.5 ms, queueing 0.2 ms, computing 3.0 ms, scoring 0.1 ms."
    )


def test_bars_of_the_chart_are_as_long_as_the_probabilities() -> None:
    card = Card("a.jpg", Image.new("RGB", (640, 480), "red"), [("all", 1.0), ("half", 0.5), ("none", 0.0001)])
    chart = draw_chart("title", [card], "footer")
    pixels = np.asarray(chart)
    blue, pale = ((pixels == colour).all(axis=2).sum() for colour in ((0x2F, 0x6F, 0xED), (0xA9, 0xB8, 0xD3)))
    assert pale / blue == pytest.approx(0.5, abs=0.01)


def test_long_labels_are_cut_and_small_probabilities_told() -> None:
    assert fitted("short", 300, 17) == "short"
    cut = fitted("a very long label " * 9, 300, 17)
    assert cut.endswith("…") and font(17).getlength(cut) <= 300
    assert (percent(0.0004), percent(0.5), percent(1)) == ("< 0.1 %", "50.0 %", "100.0 %")
