"""`siglip embed` from outside: signals, a full disk, a service that is away, what it says."""

import io
import json
import resource
import signal
from pathlib import Path

import pytest

from siglip_cli.main import run
from siglip_client import Client
from siglip_jobs import decoder
from siglip_jobs.job import Job
from siglip_jobs.options import Options
from siglip_jobs.sources import open_source
from tests.cli.service import siglip
from tests.jobs import crashing_decoder
from tests.jobs.commands import Embedding, written_parts
from tests.jobs.outputs import assert_same, embed, errors, files, rows

TEXTS = [f"text {number}" for number in range(30)]
SMALL = ("--rows-per-part", "10")


@pytest.fixture
def whole(tmp_path: Path, client: Client) -> Path:
    """What a run that nobody disturbs makes of TEXTS."""
    source = open_source("-", stdin=io.BytesIO("\n".join(TEXTS).encode() + b"\n"))
    assert Job(source, tmp_path / "whole", client, Options()).run().all_right
    return tmp_path / "whole"


def test_killed_and_run_again(whole: Path, tmp_path: Path, gateway: str) -> None:
    out = tmp_path / "out"
    first = Embedding(gateway, out, *SMALL)
    first.give(TEXTS[:25])
    first.wait_for_parts(2)
    first.end(signal.SIGKILL)
    kept = files(out)
    again = Embedding(gateway, out, *SMALL)
    again.give(TEXTS)
    assert again.end()[0] == 0
    assert kept.items() < files(out).items() and len(kept) == 2
    assert_same(rows(out), rows(whole))


def test_a_signal_writes_the_part_in_hand(whole: Path, tmp_path: Path, gateway: str) -> None:
    out = tmp_path / "out"
    first = Embedding(gateway, out, "--rows-per-part", "10", "--part-every-s", "0.1")
    first.give(TEXTS[:15])
    first.wait_for_parts(1)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.stderr
    assert first.process.stderr.readline() == b"siglip: finishing what is in work ...\n"
    first.process.send_signal(signal.SIGTERM)  # it waits for a line that does not come
    first.process.wait(30)
    code, told = first.end()
    assert code == 130 and "siglip: stopped with 15 rows in" in told and "the same command continues" in told
    again = Embedding(gateway, out)
    again.give(TEXTS)
    assert again.end()[0] == 0
    assert_same(rows(out), rows(whole))


def test_other_lines_than_before_are_refused(whole: Path, gateway: str) -> None:
    for lines in (["changed", *TEXTS[1:], *TEXTS * 100], TEXTS[:10]):
        other = Embedding(gateway, whole, *SMALL)
        other.give(lines)
        code, told = other.end()
        assert (
            code == 2 and "the first 30 lines of standard input are not those that the job began with" in told
        )
    assert written_parts(whole) == 1


def test_a_full_disk(whole: Path, tmp_path: Path, gateway: str) -> None:
    out = tmp_path / "out"
    embedding = Embedding(gateway, out, *SMALL)
    embedding.give(TEXTS[:20])
    embedding.wait_for_parts(2)
    kept = files(out)
    # As good as full: no file may grow beyond what a manifest needs.
    resource.prlimit(embedding.process.pid, resource.RLIMIT_FSIZE, (1500, 1500))
    embedding.give(TEXTS[20:])
    code, told = embedding.end()
    assert (
        code == 2
        and f"cannot write {out}/part-00002.parquet: File too large; what was written before" in told
    )
    assert files(out) == kept
    again = Embedding(gateway, out, *SMALL)
    again.give(TEXTS)
    assert again.end()[0] == 0
    assert_same(rows(out), rows(whole))


def test_a_service_that_is_away(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["embed", photos, "--out", tmp_path / "out", "--address", "127.0.0.1:1", "--timeout-s", "0.5"]
    assert run(list(map(str, arguments))) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_decoder_that_crashes_fails_its_picture_only(
    photos: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "serve", crashing_decoder.serve)
    (photos / "5.png").write_bytes(crashing_decoder.DEADLY)
    summary = embed(photos, tmp_path / "out", client, decode="client", decode_processes=2)
    assert (summary.rows, summary.failed) == (14, 3)
    assert errors(tmp_path / "out")["5.png"].startswith(
        "IMAGE_DECODER_CRASHED: the decoder crashed on this image"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["photos", "--shard", "4/4"], "--shard is '4/4'; it must be i/n with i from 0 to n-1"),
        (["gone"], "there is no file or folder gone"),
        (["-", "--columns", "a"], "--columns a is given, and standard input has no columns"),
        (["photos", "--rows-per-part", "0"], "--rows-per-part is '0'; it must be a whole number, at least 1"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    told: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos.parent)
    assert run(["embed", *arguments, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1
    assert not (photos.parent / "out").exists()


def test_failures_are_counted_and_told(photos: Path, tmp_path: Path, gateway: str) -> None:
    done = siglip("embed", photos, "--out", tmp_path / "out", "--address", gateway)
    assert done.returncode == 1
    assert done.stdout.startswith(f"13 rows in {tmp_path}/out, 2 of them failed; ")
    assert done.stderr == f"siglip: what failed is listed in {tmp_path}/out/errors.jsonl\n"


def test_parts_that_could_not_be_verified_are_told(
    tmp_path: Path, gateway: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("text\none\n")
    command = ["embed", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), "--address", gateway]
    assert run(command) == run([*command, "--verify"]) == 0
    manifest = tmp_path / "out" / "manifest.json"
    held = json.loads(manifest.read_bytes())
    held["parts"][0]["sha256"] = {}
    manifest.write_text(json.dumps(held))
    capsys.readouterr()
    assert run([*command, "--verify"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("1 rows in ")
    assert err == f"siglip: 1 parts in {tmp_path}/out were not verified: no checksums\n"
