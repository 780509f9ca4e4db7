"""What `make deploy-check` says of images that are not as they should be, and of those it cannot build."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import deploy_check, running
from scripts.deploy_check import Check
from scripts.images import BuildError, Store

CONFINED = "Uid:\t65532\t65532\t65532\t65532\nNSpid:\t812\t1\nCapEff:\t0\nCapBnd:\t0\nNoNewPrivs:\t1\n"
OVERLAY = "63 43 0:52 / / ro,relatime - overlay overlay rw\n64 63 0:39 / /proc rw - proc proc rw\n"
# The image is a folder of a file system that has more in it.
FOLDER = OVERLAY.replace("0:52 / /", "254:0 /store/vfs/dir/f00d /")


@pytest.mark.parametrize("mounts", [OVERLAY, FOLDER])
def test_a_process_that_is_confined_is_seen_as_such(mounts: str) -> None:
    assert running.loose(CONFINED, mounts) == []
    assert running.loose(CONFINED, mounts.replace(" ro,", " rw,")) == ["read-only root"]


@pytest.mark.parametrize(
    ("right", "wrong", "name"),
    [
        ("Uid:\t65532", "Uid:\t0", "user"),
        ("812\t1", "812", "first process"),
        ("CapEff:\t0", "CapEff:\t20", "capabilities"),
        ("CapBnd:\t0", "CapBnd:\t20", "capabilities"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no_new_privs"),
    ],
)
def test_what_a_process_may_too_much_is_named(right: str, wrong: str, name: str) -> None:
    assert running.loose(CONFINED.replace(right, wrong), OVERLAY) == [name]


def test_a_container_that_does_not_stop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "STOP_S", 0.1)
    deaf = "trap '' TERM; echo deaf; exec sleep 60"
    with subprocess.Popen(["sh", "-c", f'sh -c "{deaf}"; :'], stdout=subprocess.PIPE) as shell:
        assert shell.stdout and shell.stdout.readline() == b"deaf\n"
        child = running._first(shell)
        try:
            with pytest.raises(BuildError, match="gateway does not stop within"):
                running._stop({"gateway": shell})
        finally:
            os.kill(child, 9)


def checked(monkeypatch: pytest.MonkeyPatch, store: Path, *checks: Check) -> int:
    monkeypatch.setattr(deploy_check, "STORE", store)
    monkeypatch.setattr(deploy_check, "CHECKS", checks)
    monkeypatch.setattr(sys, "argv", ["deploy_check"])
    return deploy_check.main()


def test_images_of_another_time_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where they belong to root, or are built at this moment."""
    monkeypatch.setattr(Store, "at", lambda folder: pytest.fail("looked at the images"))
    assert checked(monkeypatch, tmp_path, Check("lint", lambda tools: "fine")) == 0
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert checked(monkeypatch, tmp_path, Check("gateway image", deploy_check.gateway_image)) == 2


def test_a_check_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["deploy_check", "--only", "nosuch"])
    with pytest.raises(SystemExit) as ended:
        deploy_check.main()
    assert ended.value.code
    told = capsys.readouterr().err
    assert "invalid choice: 'nosuch'" in told and "container files" in told
