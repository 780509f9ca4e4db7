"""The commands that call a service, and those that need none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gateway.access import Access
from siglip_cli import exit_codes
from siglip_cli.main import COMMANDS, run
from tests.cli.service import SIGLIP, Service, clean_environ, siglip

LABELS = ("--label", "a cat", "--label", "a dog", "--label", "a red circle")


def test_a_new_token_is_one_that_a_gateway_knows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["token", "new", "search.team"]) == 0
    entry, secret = capsys.readouterr()
    file = tmp_path / "tokens.toml"
    file.write_text(entry)
    assert Access(str(file)).caller(f"Bearer {secret}", "unix:", None).name == "search.team"


@pytest.fixture
def photos(tmp_path: Path, png: bytes) -> Path:
    """Two pictures, and between them a text file that says it is one."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(png)
    (folder / "b.jpg").write_text("not a picture")
    (folder / "deep" / "c.png").write_bytes(png)
    return folder


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_classify_table(service: Service, photos: Path) -> None:
    done = siglip("classify", photos / "a.png", *LABELS, "--address", service.address)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(photos / "a.png")] * 3
    assert sorted(row[2] for row in rows) == ["a cat", "a dog", "a red circle"]
    assert all(0 <= float(row[1]) <= 1 for row in rows)


def test_classify_json_has_stable_fields(service: Service, photos: Path) -> None:
    done = siglip("classify", photos, *LABELS, "--softmax", "--json", "--address", service.address)
    assert done.returncode == 1
    assert done.stderr == ""
    good, bad, other = json_lines(done.stdout)
    assert [line["image"] for line in (good, bad, other)] == [
        str(photos / name) for name in ("a.png", "b.jpg", "deep/c.png")
    ]
    for line in (good, bad, other):
        assert list(line) == ["image", "labels", "error"]
    assert good["error"] is None
    labels = good["labels"]
    assert isinstance(labels, list)
    assert list(labels[0]) == ["label", "index", "probability", "logit", "cosine"]
    assert sum(label["probability"] for label in labels) == pytest.approx(1, abs=1e-5)
    assert [label["probability"] for label in labels] == sorted(
        (label["probability"] for label in labels), reverse=True
    )
    assert bad["labels"] == []
    assert isinstance(bad["error"], dict)
    assert bad["error"]["reason"] == "IMAGE_UNREADABLE"
    assert bad["error"]["retryable"] is False
    assert other["labels"] == labels


def test_bad_file_is_named_and_its_neighbours_answered(service: Service, photos: Path) -> None:
    done = siglip("classify", photos, "gone.png", *LABELS, "--address", service.address)
    assert done.returncode == 1
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {
        str(photos / "a.png"),
        str(photos / "deep" / "c.png"),
    }
    named = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert named == [str(photos / "b.jpg"), "gone.png"]


def test_classify_from_standard_input_and_labels_file(
    service: Service, photos: Path, png: bytes, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("ein Hund\n\neine Katze\n")
    done = siglip(
        *("classify", "-", "--labels-file", tmp_path / "labels.txt", "--json", "--top-k", "1"),
        *("--template", "ein Foto: {}", "--template", "{}"),
        stdin=png,
        environ=clean_environ(SIGLIP_ADDRESS=service.address),
    )
    assert done.returncode == 0, done.stderr
    [line] = json_lines(done.stdout)
    assert line["image"] == "-"
    assert isinstance(line["labels"], list)
    assert len(line["labels"]) == 1
    assert line["labels"][0]["label"] in {"ein Hund", "eine Katze"}


def test_more_images_than_one_call_takes(service: Service, tmp_path: Path, png: bytes) -> None:
    for number in range(70):
        (tmp_path / f"{number:03}.png").write_bytes(png)
    (tmp_path / "065.png").write_bytes(b"")
    done = siglip("embed-image", str(tmp_path / "*.png"), "--json", "--address", service.address)
    lines = json_lines(done.stdout)
    assert [Path(str(line["image"])).stem for line in lines] == [f"{number:03}" for number in range(70)]
    assert [index for index, line in enumerate(lines) if line["error"]] == [65]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--label"),
        (["--label", "x", "--template", "no braces"], "templates[0]"),
        (["--labels-file", "{many}"], "10000"),
        (["--label", "x", "--threshold", "2"], "--threshold"),
        (["--label", "x", "--labels-file", "{gone}"], "gone.txt"),
        (["--label", "x", "--lable", "y"], "--lable"),
        (["--label", "x", "--timeout-s", "-1"], "--timeout-s is '-1'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    service: Service, photos: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    many = tmp_path / "many.txt"
    many.write_text("".join(f"label {number}\n" for number in range(10_000)))
    filled = [part.format(many=many, gone=tmp_path / "gone.txt") for part in arguments]
    done = siglip("classify", photos / "a.png", *filled, "--address", service.address)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("option", "said"),
    [("--address", "which no address can be"), ("--served-model", "which no model can be named")],
)
def test_a_place_that_is_no_text(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", option, "\udcff"]) == 2
    assert capsys.readouterr().err == f"siglip: {option} is '\\udcff', {said}\n"


def test_no_service(photos: Path) -> None:
    done = siglip(
        *("classify", photos / "a.png", "--label", "x", "--address", "127.0.0.1:1", "--timeout-s", "2")
    )
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "127.0.0.1:1" in line
    assert "siglip serve" in line


def test_score(service: Service, photos: Path) -> None:
    arguments = ("--text", "a cat", "--text", "a dog", "--address", service.address)
    done = siglip("score", photos, *arguments, "--json")
    assert done.returncode == 1
    good, bad, other = json_lines(done.stdout)
    assert list(good) == list(bad) == ["image", "scores", "error"]
    assert good["scores"] == other["scores"]
    assert bad["scores"] == []
    scores = good["scores"]
    assert isinstance(scores, list)
    assert [list(score) for score in scores] == [["text", "index", "probability", "logit", "error"]] * 2
    for score in scores:
        assert 1 / (1 + np.exp(-score["logit"])) == pytest.approx(score["probability"], rel=1e-4)
    plain = siglip("score", photos / "a.png", *arguments)
    assert [line.split("\t")[2] for line in plain.stdout.splitlines()] == ["a cat", "a dog"]


def test_embed_text_from_arguments_and_lines_agree(service: Service) -> None:
    texts = ["a cat", "", "Ünïcode ☃"]
    environ = clean_environ(SIGLIP_ADDRESS=service.address)
    given = siglip("embed-text", "--json", "--", *texts, environ=environ)
    piped = siglip("embed-text", "--json", stdin="\n".join(texts).encode(), environ=environ)
    assert given.returncode == 0, given.stderr
    assert json_lines(given.stdout) == json_lines(piped.stdout)
    vectors = np.array([line["embedding"] for line in json_lines(given.stdout)])
    assert [line["text"] for line in json_lines(given.stdout)] == texts
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    raw = json_lines(siglip("embed-text", "a cat", "--raw", "--json", environ=environ).stdout)
    assert abs(np.linalg.norm(np.array(raw[0]["embedding"])) - 1) > 1e-3


def test_embed_out_holds_the_same_numbers(service: Service, photos: Path, tmp_path: Path) -> None:
    environ = clean_environ(SIGLIP_ADDRESS=service.address)
    out = tmp_path / "vectors.npy"
    done = siglip("embed-image", photos, "--out", out, environ=environ)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{row}\t{photos / name}" for row, name in enumerate(("a.png", "b.jpg", "deep/c.png"))
    ]
    matrix = np.load(out)
    assert (matrix.dtype, matrix.shape) == (np.float32, (3, 32))
    assert np.isnan(matrix[1]).all()
    [line] = json_lines(siglip("embed-image", photos / "a.png", "--json", environ=environ).stdout)
    np.testing.assert_allclose(matrix[0], np.array(line["embedding"], np.float32), atol=1e-6)
    assert not list(tmp_path.glob("*.partial"))


def test_embed_out_into_no_folder_is_refused_before_the_work(service: Service, photos: Path) -> None:
    done = siglip("embed-image", photos, "--out", "gone/x.npy", "--address", service.address)
    assert done.returncode == 2
    assert "gone" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_embed_out_replaces_nothing_but_files(service: Service, tmp_path: Path, kind: str) -> None:
    """Never tried on a real device: as root the test itself would replace it."""
    out = tmp_path / "out"
    if kind == "device":
        out.symlink_to("/dev/null")
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out.mkdir()
    mode = out.lstat().st_mode
    done = siglip("embed-text", "a cat", "--out", out, "--address", service.address)
    assert (done.returncode, done.stdout) == (2, "")
    assert kind == "folder" or "it is not a regular file" in done.stderr
    assert out.lstat().st_mode == mode


def test_embed_out_keeps_a_link(service: Service, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link.npy", tmp_path / "there" / "vectors.npy"
    link.symlink_to(target)
    for texts in (["a cat"], ["a cat", "a dog"]):  # the target does not exist at first, then it does
        done = siglip("embed-text", *texts, "--out", link, "--address", service.address)
        assert done.returncode == 0, done.stderr
        assert link.is_symlink()
        assert np.load(target).shape == (len(texts), 32)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["vectors.npy"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "{image}", "--label", "caf\udce9"),
        ("classify", "{image}", "--label", "x", "--template", "\udce9 {{}}"),
        ("score", "{image}", "--text", "\udce9"),
        ("embed-text", "\udcff"),
    ],
)
def test_texts_that_are_not_utf_8_are_one_line(
    service: Service, photos: Path, arguments: tuple[str, ...]
) -> None:
    filled = [part.format(image=photos / "a.png") for part in arguments]
    done = siglip(*filled, "--address", service.address)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "[0]: character " in line


def test_file_names_that_are_not_utf_8(service: Service, tmp_path: Path, png: bytes) -> None:
    (tmp_path / "\udcff\n.png").write_bytes(png)
    # Where Python itself would refuse to print such a name.
    environ = clean_environ(SIGLIP_ADDRESS=service.address, PYTHONIOENCODING="utf-8:strict")
    [line] = json_lines(siglip("embed-image", tmp_path, "--json", environ=environ).stdout)
    assert line["image"] == f"{tmp_path}/\ufffd\n.png"
    done = siglip("embed-image", tmp_path, environ=environ)
    assert (done.returncode, done.stdout.split("\t")[0]) == (0, f"{tmp_path}/\ufffd\\n.png")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["config"], ["--help"]])
def test_a_full_disk_under_standard_output_is_one_line(command: list[str], unbuffered: str) -> None:
    environ = clean_environ(PYTHONUNBUFFERED=unbuffered)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*SIGLIP, *command], stdout=full, stderr=subprocess.PIPE, env=environ)
    assert done.stderr == b"siglip: cannot write output: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize("arguments", ["embed-text", "classify - --label x", "embed-text x >&-"])
def test_closed_standard_streams(service: Service, arguments: str) -> None:
    command = f"{sys.executable} -P -m siglip_cli {arguments} <&-"
    environ = clean_environ(SIGLIP_ADDRESS=service.address)
    done = subprocess.run(command, shell=True, capture_output=True, env=environ)
    assert (done.returncode, len(done.stderr.splitlines())) == ((0, 0) if ">&-" in arguments else (2, 1))


def test_ctrl_c_before_anything_is_imported(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = siglip("config", environ=clean_environ(PYTHONPATH=f"{tmp_path}:{Path.cwd()}"))
    assert (done.returncode, done.stderr) == (130, "siglip: interrupted\n")


def test_info(service: Service) -> None:
    done = siglip("info", "--json", "--address", service.address)
    described = json.loads(done.stdout)
    assert described["name"] == "tiny"
    assert described["embedding_dim"] == 32
    assert described["text_tower"]["live_workers"] == 1
    assert described["limits"]["max_images"] == 64
    plain = siglip("info", "--address", service.address).stdout
    assert described["fingerprint"] in plain
    assert "vision tower" in plain


def test_config_shows_values_and_sources_and_hides_passwords() -> None:
    url = "rediss://user:hunter2@queue:6380/1?password=hunter3"
    environ = clean_environ(SIGLIP_REDIS_URL=url, SIGLIP_MAX_IMAGES="16")
    done = siglip("config", "--changed", "--json", environ=environ)
    shown = json.loads(done.stdout)
    assert list(shown) == ["redis_url", "max_images"]
    assert shown["max_images"] | {"help": ""} == {
        "value": 16,
        "source": "SIGLIP_MAX_IMAGES",
        "variable": "SIGLIP_MAX_IMAGES",
        "flag": "--max-images",
        "unit": "images",
        "help": "",
    }
    assert shown["redis_url"]["value"] == "rediss://user:***@queue:6380/1?***"
    plain = siglip("config", environ=environ).stdout
    assert "hunter" not in plain
    rows = {line.split()[0]: line.split()[1:] for line in plain.splitlines()}
    assert rows["SIGLIP_MAX_IMAGES"] == ["16", "images", "environment"]
    assert rows["SIGLIP_ADDRESS"] == ["127.0.0.1:50051", "default"]
    assert rows["SIGLIP_MODEL"] == ["(not", "set)", "default"]


@pytest.mark.parametrize(
    "command",
    [
        *(["config"], ["info"], ["serve"], ["gateway"], ["worker"], ["download", "x"], ["embed-text", "x"]),
        *(["classify", "x.png", "--label", "x"], ["score", "x.png", "--text", "x"], ["embed-image", "x.png"]),
    ],
)
def test_unknown_variable_stops_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("SIGLIP_MAX_IMAGE", "16")
    assert run(command) == 2
    assert capsys.readouterr().err.splitlines() == [
        "siglip: SIGLIP_MAX_IMAGE is not a setting; the nearest is SIGLIP_MAX_IMAGES. Unset it or correct it."
    ]


@pytest.mark.slow
def test_convert_writes_a_folder_that_loads(model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(model, source)
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    (source / "spiece.model").unlink()
    done = siglip("convert", source, target)
    assert done.stdout == f"Wrote {target}\n" and "has no tokenizer: copy spiece.model" in done.stderr
    assert (target / "model.safetensors").is_file()
    again = siglip("convert", source, target)
    assert again.returncode == exit_codes.USAGE and f"{target} is not empty" in again.stderr
    assert siglip("convert", tmp_path / "nowhere", target).returncode == exit_codes.USAGE


def test_download_of_a_folder_and_of_nothing(model: Path) -> None:
    assert siglip("download", model).stdout.strip() == str(model)
    offline = clean_environ(HF_HUB_OFFLINE="1", HF_HOME="/nonexistent")
    done = siglip("download", "nobody/nothing", environ=offline)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_reader_that_leaves_is_no_error(service: Service) -> None:
    command = f"{sys.executable} -P -m siglip_cli embed-text --json --address {service.address} | head -n 1"
    lines = "\n".join(f"text {number}" for number in range(600))
    done = subprocess.run(command, shell=True, input=lines.encode(), capture_output=True, env=clean_environ())
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == 1


def test_a_reader_that_has_left_already_is_one_exit_code() -> None:
    """As a shell reports SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run([*SIGLIP, "acl"], stdout=gone, stderr=subprocess.PIPE, env=clean_environ())
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_shows_examples_and_exit_codes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"siglip {command}" in printed.partition("Examples:")[2]
    assert "Exit codes: 0 done" in printed


def test_no_arguments_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    printed = capsys.readouterr().out
    assert [
        line.split()[0] for line in printed.partition("Commands:\n")[2].splitlines()[: len(COMMANDS)]
    ] == [command.name for command in COMMANDS]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("siglip")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "No such command 'nope'"),
        (["classify"], "Missing argument 'IMAGE...'"),
        (["classify", "x.png", "--label", "x", "--top-k", "-1"], "--top-k"),
        (["classify", "x.png", "--label", "x", "--top-k", "99999999999"], "--top-k"),
        (["serve", "--towers", "audio"], "'audio'"),
    ],
)
def test_usage_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("siglip: ")
    assert said in line
    assert line.endswith("--help')")


def test_help_and_client_commands_are_light(service: Service, photos: Path) -> None:
    code = (
        "import sys; from siglip_cli.main import run; code = run(sys.argv[1:]); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(code)"
    )
    heavy = {"torch", "redis", "transformers", "huggingface_hub"}
    classify = ["classify", str(photos / "a.png"), *LABELS, "--address", service.address]
    for arguments, refused in ((["--help"], heavy | {"numpy", "grpc", "google"}), (classify, heavy)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=clean_environ()
        )
        assert done.returncode == 0, done.stderr
        assert not refused & set(done.stderr.split())
