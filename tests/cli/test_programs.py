from pathlib import Path

import pytest

from siglip_cli import programs
from siglip_cli.probe import bound_address, dialable
from siglip_cli.programs import Setup, check_workers, gateway_program, worker_programs
from siglip_settings import GatewaySettings, ServeSettings, SettingsError, WorkerSettings, load


def setup(settings: ServeSettings, *hub_commits: str) -> Setup:
    commits = hub_commits or ("",) * len(settings.each_model)
    return Setup(settings, Path("/run/private"), "unix:///run/private/q", commits)


def test_children_get_the_settings_of_the_service() -> None:
    settings = ServeSettings(model="models/tiny", max_texts=7, device="cpu", log_format="json")
    gateway = load(GatewaySettings, gateway_program(setup(settings)).environ)
    assert gateway == GatewaySettings(
        model="models/tiny",
        model_name="models/tiny",
        max_texts=7,
        log_format="json",
        redis_url="unix:///run/private/q",
    )
    [text, vision] = worker_programs(setup(settings))
    assert text.command[-2:] == ["--tower", "text"]
    worker = load(WorkerSettings, vision.environ, tower="vision")
    assert (worker.device, worker.redis_url, worker.log_format) == ("cpu", "unix:///run/private/q", "json")


def test_settings_of_the_shell_do_not_reach_children_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGLIP_MAX_TEXTS", "9")
    monkeypatch.setenv("SIGLIP_TEXT_WORKERS", "3")
    environ = gateway_program(setup(ServeSettings(model="m", max_texts=7))).environ
    assert environ["SIGLIP_MAX_TEXTS"] == "7"
    assert "SIGLIP_TEXT_WORKERS" not in environ


@pytest.mark.parametrize(
    ("cores", "workers", "given", "threads"),
    [(8, 2, 0, 4), (2, 2, 0, 1), (1, 3, 0, 1), (9, 4, 0, 2), (8, 2, 3, 3)],
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, given: int, threads: int
) -> None:
    monkeypatch.setattr(programs, "usable_cores", lambda: cores)
    settings = ServeSettings(model="m", text_workers=1, vision_workers=workers - 1, threads=given)
    found = worker_programs(setup(settings))
    assert len(found) == workers
    assert {program.environ["SIGLIP_THREADS"] for program in found} == {str(threads)}


def test_names_and_towers_of_workers() -> None:
    settings = ServeSettings(model="m", text_workers=3, vision_workers=2, towers="vision")
    assert [program.name for program in worker_programs(setup(settings))] == [
        "vision worker 1",
        "vision worker 2",
    ]


def test_a_hub_model_is_pinned_for_the_children() -> None:
    program = gateway_program(setup(ServeSettings(model="owner/name"), "abc"))
    assert program.environ["SIGLIP_REVISION"] == "abc"
    assert program.environ["HF_HUB_OFFLINE"] == "1"
    assert "abc" not in repr(program)


def test_served_tower_without_a_worker() -> None:
    with pytest.raises(SettingsError, match="--text-workers is 0"):
        check_workers(ServeSettings(model="m", text_workers=0))
    check_workers(ServeSettings(model="m", text_workers=0, towers="vision"))
    check_workers(ServeSettings(model="m", text_workers=0, redis_url="redis://elsewhere"))


@pytest.mark.parametrize(
    ("listen", "port", "bound", "called"),
    [
        ("127.0.0.1:0", 4321, "127.0.0.1:4321", "127.0.0.1:4321"),
        ("0.0.0.0:50051", 50051, "0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:0", 99, "[::]:99", "[::1]:99"),
        ("unix:/run/x", 0, "unix:/run/x", "unix:/run/x"),
    ],
)
def test_addresses(listen: str, port: int, bound: str, called: str) -> None:
    assert bound_address(listen, port) == bound
    assert dialable(bound) == called
