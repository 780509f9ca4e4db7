"""The documents: no placeholder left, no dead link, and the README's code is the tested code."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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
