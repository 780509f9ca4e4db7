"""The contract: nothing that clients rely on can go unnoticed, and docs/api.md says all of it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from siglip.v1 import embedding_pb2, model_pb2, types_pb2, zero_shot_pb2

ROOT = Path(__file__).parent.parent
BUF = Path(sys.executable).parent / "buf"
FILES = (embedding_pb2, model_pb2, types_pb2, zero_shot_pb2)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(
        ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("*.py*", "__pycache__")
    )
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "api.md", tmp_path / "docs")
    return tmp_path


def change(root: Path, file: str, old: str, new: str) -> None:
    path = root / "protos" / "siglip" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def broken(root: Path) -> str:
    """What `make check` says about compatibility; empty when nothing has broken."""
    command = [BUF, "breaking", "--against", "protos/released.binpb"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) in {(0, ""), (100, "")}, done.stderr
    return done.stdout


def stale(root: Path) -> bool:
    command = [sys.executable, "-m", "scripts.api_docs", "--check", "--root", root]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    return done.returncode == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("v1/types.proto", "  float scale = 4;\n", "", 'field "4" with name "scale" on message "Vector"'),
        ("v1/types.proto", "float scale = 4;", "reserved 4;", 'field "4" with name "scale"'),
        ("v1/types.proto", "float scale = 4;", "float scale = 5;", 'field "4" with name "scale"'),
        ("v1/types.proto", "float scale = 4;", "float factor = 4;", 'from "scale" to "factor"'),
        ("v1/types.proto", "float scale = 4;", "double scale = 4;", '"float" to "double"'),
        ("v1/types.proto", "DTYPE_I8 = 4;", "DTYPE_INT8 = 4;", '"DTYPE_I8" to "DTYPE_INT8"'),
        ("v1/model.proto", "rpc Tokenize(", "rpc Split(", 'RPC "Tokenize"'),
        ("v1/model.proto", '"siglip/v1;siglipv1"', '"siglip/v1;other"', "go_package"),
        ("broker/v1/job.proto", "  uint64 deadline_ms = 7;\n", "", 'field "7" with name "deadline_ms"'),
    ],
)
def test_what_breaks_clients_is_told(copy: Path, file: str, old: str, new: str, told: str) -> None:
    change(copy, file, old, new)
    assert told in broken(copy)


def test_adding_breaks_nothing(copy: Path) -> None:
    assert broken(copy) == ""
    change(copy, "v1/types.proto", "float scale = 4;", "float scale = 4;\n  // New.\n  bool fresh = 5;")
    change(copy, "v1/types.proto", "DTYPE_I8 = 4;", "DTYPE_I8 = 4;\n  // New.\n  DTYPE_I4 = 5;")
    change(
        copy,
        "v1/model.proto",
        "  // Shows the token ids",
        "  // New.\n  rpc Look(GetModelRequest) returns (GetModelResponse);\n  // Shows the token ids",
    )
    assert broken(copy) == ""


def test_the_page_is_fresh_and_a_comment_makes_it_stale(copy: Path) -> None:
    assert not stale(copy)
    change(copy, "v1/types.proto", "// Number of rows.", "// How many rows there are.")
    assert stale(copy)


def test_the_page_has_everything_with_its_meaning_and_links_that_lead_somewhere() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    headings = re.findall(r"^##+ (.+)$", page, re.MULTILINE)
    rows = set(re.findall(r"^\| `(\w+)` \| \d+ \| .*\S \|$", page, re.MULTILINE))
    for file in (module.DESCRIPTOR for module in FILES):
        for service in file.services_by_name.values():
            assert {service.name, *(method.name for method in service.methods)} <= set(headings)
        for message in file.message_types_by_name.values():
            assert message.name in headings
            assert {field.name for field in message.fields} <= rows
        for enum in file.enum_types_by_name.values():
            assert {value.name for value in enum.values} <= rows
    assert len(headings) == len(set(headings))
    anchors = {heading.lower() for heading in headings}
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", page) if link not in anchors] == []
    assert not re.search(r"\| +\|", page), "something has no comment"
    assert (
        "| `max_texts` | 1 | uint32 | 512 |" in page
        and "| `max_deadline_ms` | 11 | uint32 | 60,000 |" in page
    )
