"""`siglip train` as its users run it."""

from pathlib import Path

import pytest

from siglip_cli.main import run
from tests.cli.service import siglip


@pytest.fixture
def photos(tmp_path: Path, png: bytes) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(2):  # bytes after the picture's end make it another one
            (tmp_path / "photos" / label / f"{number}.png").write_bytes(
                png + label.encode() + bytes([number])
            )
    return tmp_path / "photos"


@pytest.mark.slow
def test_train_evaluates_and_saves(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    flags = ("--steps", "2", "--batch-size", "2", "--eval-data", photos, "--device", "cpu", "--workers", "1")
    done = siglip("train", model, photos, "--out", out, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "4 pairs, 2 steps of 2"
    assert lines[1] == "step 0, 4 pairs" and lines[4] == "step 2, 4 pairs"
    assert [line.split()[0] for line in lines[1:-1]] == ["step", "zero_shot", "step", "step", "zero_shot"]
    assert lines[-1] == f"done: 2 steps, 0 bad pairs; saved in {out}"
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "spiece.model"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--batch-size", "1"], "--batch-size is '1'; it must be a whole number, at least 2 (pairs)"),
        (["--template", "a photo"], "--template is 'a photo'; it must hold exactly one {}"),
        (["--frozen", "audio"], "'audio'"),
        (["--lora", "8"], "No such option"),
        ([], "there is no file or folder /nowhere"),
    ],
)
def test_wrong_settings_are_one_line(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, flags: list[str], said: str
) -> None:
    assert run(["train", str(model), "/nowhere", "--out", str(tmp_path / "out"), *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
