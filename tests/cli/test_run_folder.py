import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from siglip_cli.run_folder import run_folder

HOLDER = """
import sys, time
from pathlib import Path
from siglip_cli.run_folder import run_folder
with run_folder(Path(sys.argv[1])) as folder:
    (folder / "socket").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


def test_private_and_removed_at_exit(tmp_path: Path) -> None:
    with run_folder(tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_base_is_made_and_removed_with_it(tmp_path: Path) -> None:
    base = tmp_path / "a" / "run"
    with run_folder(base) as folder:
        assert folder.parent == base
    assert not base.exists()


def test_next_start_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        held = Path(holder.stdout.readline().strip())
        with run_folder(tmp_path):
            spared = (held / "socket").exists()
        os.kill(holder.pid, signal.SIGKILL)
    assert spared, "the folder of a living one was swept"
    assert (held / "socket").exists()
    with run_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "siglip-photos").mkdir()
    (tmp_path / "siglip-file").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "target").touch()
    linked = tmp_path / "siglip-linked"
    linked.mkdir()
    (linked / "lock").symlink_to(elsewhere / "target")
    with run_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere",
        "siglip-file",
        "siglip-linked",
        "siglip-photos",
    ]
