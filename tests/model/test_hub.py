"""Hub ids against a local server: a child process each time, so that the environment counts."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from siglip_model import SiglipModel, SiglipTextModel, SiglipVisionModel
from siglip_model.files import CheckpointFiles
from tests.support.hub import COMMIT, TOKEN, Hub, running_hub

NEEDED = {
    "config.json",
    "model.safetensors",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
}
# Prints what happened as JSON, and whether anything was written to the terminal on the way.
CHILD = """
import json, sys
from siglip_model.files import CheckpointError, resolve
try:
    found = resolve(sys.argv[1], **json.loads(sys.argv[2]))
    result = {"folder": str(found.folder), "revision": found.revision}
except CheckpointError as error:
    result = {"error": str(error)}
print(json.dumps(result | {"torch": "torch" in sys.modules}))
"""


@pytest.fixture
def hub(tiny: Path, tmp_path: Path) -> Iterator[Hub]:
    folder = shutil.copytree(tiny, tmp_path / "repository")
    for name in ("pytorch_model.bin", "README.md", "flax_model.msgpack", "tf_model.h5", "model.onnx"):
        (folder / name).write_text("never to be fetched")
    with running_hub(google__siglip=folder) as hub:
        yield hub


class Child:
    def __init__(self, hub: Hub, home: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_HOME": str(home),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def resolve(
        self, model: str = "google/siglip", env: dict[str, str] | None = None, **options: object
    ) -> dict:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, model, json.dumps(options)],
            env=self.environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=110,
            check=True,
        )
        assert done.stderr == ""
        result = json.loads(done.stdout)
        assert result["torch"] is False
        return result


@pytest.fixture
def child(hub: Hub, tmp_path: Path) -> Child:
    return Child(hub, tmp_path / "home")


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_only_what_is_needed_is_fetched_once_and_then_cached(hub: Hub, child: Child, tmp_path: Path) -> None:
    found = child.resolve()
    assert found["revision"] == COMMIT
    assert names(found["folder"]) == hub.files_sent() == NEEDED
    assert Path(found["folder"]).is_relative_to(tmp_path / "home")
    for name in NEEDED:
        assert (Path(found["folder"]) / name).read_bytes() == (
            hub.repositories["google/siglip"] / name
        ).read_bytes()
    hub.requests.clear()
    assert child.resolve() == found
    assert hub.files_sent() == set()


def test_offline_uses_the_cache_or_says_so(hub: Hub, child: Child) -> None:
    missing = child.resolve(env={"HF_HUB_OFFLINE": "1"})
    assert "google/siglip" in missing["error"]
    assert "not in the local cache" in missing["error"]
    assert hub.requests == []
    found = child.resolve()
    hub.requests.clear()
    assert child.resolve(env={"HF_HUB_OFFLINE": "1"}) == found
    assert child.resolve(local_files_only=True) == found
    assert hub.requests == []


@pytest.mark.slow
def test_a_hub_that_is_down_leaves_the_cache(hub: Hub, child: Child) -> None:
    found = child.resolve()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}
    assert child.resolve(env=nowhere) == found
    assert "hub was not reached" in child.resolve("google/other", env=nowhere)["error"]
    assert "not a folder here" in child.resolve("google/other", env=nowhere)["error"]


@pytest.mark.slow  # huggingface_hub waits between its attempts
def test_a_connection_that_breaks_in_the_middle_of_a_file(hub: Hub, child: Child) -> None:
    hub.cut = "model.safetensors"
    quiet = {"HF_HUB_VERBOSITY": "error"}  # it warns of each time that it tries again
    assert child.resolve(env=quiet)["error"].startswith("google/siglip could not be fetched: ")
    hub.cut = ""
    assert names(child.resolve()["folder"]) == NEEDED


def test_revisions_and_cache_folder(hub: Hub, child: Child, tmp_path: Path) -> None:
    found = child.resolve(revision="v1", cache_dir=str(tmp_path / "elsewhere"))
    assert Path(found["folder"]).is_relative_to(tmp_path / "elsewhere")
    assert child.resolve(revision=COMMIT)["revision"] == COMMIT
    assert child.resolve(revision="v2")["error"] == "google/siglip has no revision v2 on the hub"


def test_some_files_only(hub: Hub, child: Child) -> None:
    found = child.resolve(only=["config.json", "spiece.model"])
    assert names(found["folder"]) == {"config.json", "spiece.model"}
    assert names(child.resolve()["folder"]) == NEEDED


def test_missing_gated_and_private_models(hub: Hub, child: Child) -> None:
    error = child.resolve("google/nothing")["error"]
    assert error == "google/nothing is not a folder here, nor a model on the hub that this HF_TOKEN may read"
    hub.gated.add("google/siglip")
    error = child.resolve()["error"]
    assert error == "google/siglip is gated: accept its terms on the hub and set HF_TOKEN"
    assert child.resolve(token=TOKEN)["revision"] == COMMIT
    hub.gated.clear()
    hub.private.add("google/siglip")
    assert (
        child.resolve(cache_dir=str(hub.repositories["google/siglip"] / "c"), env={"HF_TOKEN": TOKEN})[
            "revision"
        ]
        == COMMIT
    )


@pytest.mark.parametrize(
    ("kind", "fetched"),
    [
        ("SiglipProcessor", NEEDED - {"model.safetensors"}),
        ("SiglipConfig", {"config.json"}),
    ],
)
def test_from_pretrained_takes_hub_ids_and_fetches_its_part(
    hub: Hub, child: Child, kind: str, fetched: set[str]
) -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"from siglip_model import {kind} as kind; kind.from_pretrained('google/siglip')",
        ],
        env=child.environment,
        timeout=110,
        check=True,
    )
    assert hub.files_sent() == fetched


@pytest.mark.parametrize("kind", [SiglipModel, SiglipTextModel, SiglipVisionModel])
def test_models_ask_the_hub_for_weights_only(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SiglipModel]
) -> None:
    """In this process, because a child would spend seconds on importing torch."""
    asked: list[object] = []

    def download(model: str, *, only: tuple[str, ...], **options: object) -> CheckpointFiles:
        asked.append((model, set(only), options["revision"]))
        return CheckpointFiles(tiny, COMMIT)

    monkeypatch.setattr("siglip_model.hub.download", download)
    assert isinstance(kind.from_pretrained("google/siglip", revision="v1"), kind)
    wanted = {"config.json", "*.safetensors", "model.safetensors.index.json"}
    assert asked == [("google/siglip", wanted, "v1")]


def test_progress_is_shown_where_it_is_asked_for(hub: Hub, child: Child) -> None:
    program = (
        "import tqdm; from siglip_model import files; files.resolve('google/siglip', progress=tqdm.tqdm)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child.environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    assert "100%" in done.stderr
    assert done.stdout == ""
