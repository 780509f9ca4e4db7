"""The documents: no placeholder left, no dead link, and the README's code is the tested code."""

import re
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
