"""The documents: no placeholder left, no dead link, and the README's code is the tested code."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.valkey import free_port

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_no_placeholder_and_no_dead_link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_shows_the_quickstart_that_is_tested() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (shown,) = [block for block in blocks if "siglip_client" in block]
    body = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8").split("-> None:\n")[1]
    code = textwrap.dedent(body.split("\n\nif __name__")[0]).strip()
    code = code.replace("address", '"127.0.0.1:50051"').replace("picture", '"samples/red-circle.jpg"')
    assert code in shown


@pytest.mark.parametrize(("page", "name"), [("README.md", "SiglipModel"), ("docs/library.md", "pipeline")])
def test_examples_of_the_model_library_run(page: str, name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    (code,) = [block for block in blocks if "siglip_model import" in block and name in block]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.99|9\.9\d+e-01", done.stdout)  # the red circle is one


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("redis-server") and shutil.which("openssl")), reason="no redis-server or no openssl"
)
def test_the_session_from_nothing_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (session,) = re.findall(r"## A session from nothing.*?```console\n(.*?)```", page, re.S)
    script = "\n".join(line[2:] for line in session.splitlines())
    for port in ("6390", "50051"):
        script = script.replace(port, str(free_port()))
    for name in ("checkpoints", "samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    siglip = tmp_path / ".venv" / "bin" / "siglip"
    siglip.parent.mkdir(parents=True)
    siglip.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m siglip_cli "$@"\n')
    siglip.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SIGLIP_")}
    environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'protos'}"
    shell = ["bash", "-e", "-c", script]
    done = subprocess.run(shell, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"red-circle.jpg\t0\.99\d*\ta red circle", done.stdout)
    findings = [line for line in done.stdout.splitlines() if line[:4] in ("ok  ", " !  ", " X  ", " -  ")]
    assert len(findings) == 14 and all(line.startswith("ok") for line in findings)
