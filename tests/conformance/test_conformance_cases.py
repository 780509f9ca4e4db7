"""The list of cases and the clients' own descriptions are well formed."""

import re
import sys
from pathlib import Path

import pytest
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from tests.conformance import clients, peculiar_servers, run
from tests.conformance.inputs import write_inputs
from tests.conformance.judge import CHECKS
from tests.conformance.planning import Case, expanded, plan, read_cases
from tests.conformance.trial import Outcome

CASES = read_cases()
REQUESTS = {
    name: getattr(module, f"{name}Request")
    for module in (embedding_pb2, model_pb2, zero_shot_pb2)
    for name in ("EmbedTexts", "EmbedImages", "Classify", "Score", "CreateLabelSet", "GetModel", "Tokenize")
    if hasattr(module, f"{name}Request")
}
REAL = {
    "plain",
    "mortal",
    "secure",
    "wrong-token",
    "no-token",
    "wrong-ca",
    "expired",
    "clear-to-tls",
    "tls-to-clear",
    "nobody",
}


def test_names_are_unique() -> None:
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_case_can_be_run_and_judged(case: Case) -> None:
    assert case["kind"] in ("works", "refused", "survives") and case["about"].endswith(".")
    assert case["endpoint"] in REAL | peculiar_servers.NAMES
    assert case["expect"]["code"] and set(case["expect"]) <= set(CHECKS)
    assert isinstance(case["expect"]["code"], str) or case["because"]
    if case["call"] == "EmbedStream":
        kinds, count = case["stream"].get("texts") or case["stream"]["images"], case["stream"]["count"]
        assert count == 0 or count >= len(kinds)
    elif "request" in case:
        assert set(case["request"]) <= set(REQUESTS[case["call"]].DESCRIPTOR.fields_by_name)
    else:
        assert case["request_base64"]
    if "label_set_from" in case:
        before = CASES[: CASES.index(case)]
        assert case["label_set_from"] in [each["name"] for each in before if each["call"] == "CreateLabelSet"]


def test_pictures_that_cases_name_are_made(tmp_path: Path) -> None:
    folder = write_inputs(tmp_path)
    named = {name for case in CASES for name in case.get("request", {}).get("images", [])}
    named |= {name for case in CASES for name in case.get("stream", {}).get("images", [])}
    assert named and all((folder / name).is_file() for name in named)
    assert (folder / "large.png").stat().st_size > 1_500_000


def test_a_plan_does_not_tell_what_is_expected(tmp_path: Path) -> None:
    endpoints = {case["endpoint"]: {"address": "127.0.0.1:1"} for case in CASES}
    written = plan(CASES, endpoints, tmp_path)
    assert [case["name"] for case in written["cases"]] == [case["name"] for case in CASES]
    assert not any({"expect", "about", "kind", "kill"} & set(case) for case in written["cases"])


def test_short_forms_of_lists() -> None:
    assert expanded({"texts": {"repeat": "a", "times": 2}}) == {"texts": ["a", "a"]}
    assert expanded([{"number": "n {}", "times": 2}]) == [["n 0", "n 1"]]


def test_a_chosen_case_brings_what_it_builds_on() -> None:
    assert [case["name"] for case in read_cases(["classify-label-set"])] == [
        "label-set",
        "classify-label-set",
    ]


def test_a_case_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SystemExit, match="there is no case textz;"):
        read_cases(["texts", "textz"])


def test_a_page_of_some_languages_is_not_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--page", "--language", "go"])
    with pytest.raises(SystemExit):
        run.main()
    assert "leave --language and --case out" in capsys.readouterr().err


@pytest.mark.parametrize("client", clients.every_client(), ids=lambda client: client.language)
def test_a_client_says_how_it_is_built_and_run(client: clients.Client) -> None:
    assert client.language and client.run and client.needs
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", package) for package in client.packages)
    assert (client.folder / "README.md").is_file()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    client = clients.Client(tmp_path, "X", ("bash", "no-such-program", "/no/such/file"), (), ("true",), ())
    assert client.missing() == ["no-such-program", "/no/such/file"]


def test_packages_of_a_client_that_can_be_built_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it needs may be here from elsewhere, and Debian's own may conflict with that."""
    ready = clients.Client(tmp_path, "X", ("bash",), (), ("true",), ("bash-of-debian",))
    wanting = clients.Client(tmp_path, "Y", ("bash", "no-such-program"), (), ("true",), ("y", "bash"))
    monkeypatch.setattr(clients, "every_client", lambda: [ready, wanting])
    assert clients.packages() == ["bash", "y"]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([Outcome("X", not_run="needs x")], 2),
        ([Outcome("X", not_run="needs x"), Outcome("Y")], 0),
        ([Outcome("X"), Outcome("Y", problems={"texts": ["wrong"]})], 1),
    ],
)
def test_what_did_not_run_has_not_passed(
    found: list[Outcome], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--case", "texts"])
    monkeypatch.setattr(run, "outcomes", lambda cases, chosen: found)
    assert run.main() == code


def test_a_client_that_cannot_be_built_or_started_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "BUILD_TIMEOUT_S", 0.01)
    client = clients.Client(tmp_path, "X", (), ("exec sleep 60",), ("build/not-made",), ())
    with pytest.raises(clients.ClientFailed, match="exec sleep 60: not done after"):
        client.build_it()
    with pytest.raises(clients.ClientFailed, match="build/not-made: No such file"):
        client.run_plan(tmp_path / "plan.json", print)
