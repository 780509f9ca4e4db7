import dataclasses
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import siglip_settings
from siglip_settings import (
    ClientSettings,
    GatewaySettings,
    ServeSettings,
    SettingsError,
    WorkerSettings,
    all_settings,
    load,
    masked,
    resolve,
    settings_of,
)

EVERY_CLASS = (GatewaySettings, WorkerSettings, ServeSettings, ClientSettings)


def test_flag_wins_over_variable_and_that_over_default() -> None:
    environ = {"SIGLIP_MAX_TEXTS": "7", "SIGLIP_MAX_IMAGES": "8", "SIGLIP_MODEL": "from-environ"}
    settings = load(GatewaySettings, environ, max_texts=5, model=None)
    assert (settings.max_texts, settings.max_images, settings.model) == (5, 8, "from-environ")
    assert settings.max_labels == GatewaySettings(model="m").max_labels


@pytest.mark.parametrize(
    ("name", "given", "parsed"),
    [
        ("max_texts", "12", 12),
        ("max_texts", 12, 12),
        ("max_deadline_s", "1.5", 1.5),
        ("max_deadline_s", 2, 2.0),
        ("listen", "unix:/run/x", "unix:/run/x"),
        ("redis_url", "redis://h:1", "redis://h:1"),
        ("towers", "vision", "vision"),
    ],
)
def test_values_are_parsed_by_annotation(name: str, given: Any, parsed: Any) -> None:
    found = getattr(load(GatewaySettings, {}, model="m", **{name: given}), name)
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("environ", "given", "message"),
    [
        ({"SIGLIP_MAX_TEXTS": "many"}, {}, "SIGLIP_MAX_TEXTS is 'many'; .* a whole number, at least 1"),
        ({"SIGLIP_MAX_TEXTS": "0"}, {}, "SIGLIP_MAX_TEXTS is '0'; .* at least 1"),
        ({}, {"max_texts": "0"}, "--max-texts is '0'"),
        ({}, {"max_texts": 1.5}, "--max-texts is 1.5; .* a whole number"),
        ({}, {"max_texts": True}, "--max-texts is True"),
        ({}, {"max_texts": "2.0"}, "--max-texts is '2.0'"),
        ({}, {"max_deadline_s": "nan"}, "--max-deadline-s is 'nan'; .* a number"),
        ({}, {"max_deadline_s": "inf"}, "--max-deadline-s is 'inf'"),
        ({}, {"decode_processes": "5000"}, "at most 1024"),
        ({"SIGLIP_TOWERS": "audio"}, {}, "SIGLIP_TOWERS is 'audio'; allowed: text,vision, text, vision"),
    ],
)
def test_bad_value_names_source_value_and_what_is_allowed(
    environ: dict[str, str], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load(GatewaySettings, environ, model="m", **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("SIGLIP_REDIS_URI", "SIGLIP_REDIS_URL"),
        ("SIGLIP_MAX_TEXT", "SIGLIP_MAX_TEXTS"),
        ("SIGLIP_ADRESS", "SIGLIP_ADDRESS"),
        ("SIGLIP_VISION_WORKER", "SIGLIP_VISION_WORKERS"),
    ],
)
@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_unknown_variable_names_the_nearest_setting(cls: type, typo: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"{typo} is not a setting; the nearest is {meant}"):
        load(cls, {typo: "x"}, **({} if cls is ClientSettings else {"model": "m"}))


def test_other_variables_and_other_processes_settings_are_no_error() -> None:
    environ = {"PATH": "/bin", "SIGLIPX": "1", "SIGLIP_TEXT_WORKERS": "3", "SIGLIP_TOWER": "text"}
    assert load(ClientSettings, environ).address == "127.0.0.1:50051"


@pytest.mark.parametrize(("cls", "flag"), [(GatewaySettings, "--model"), (ServeSettings, "--model")])
def test_missing_required_setting(cls: type, flag: str) -> None:
    with pytest.raises(SettingsError, match=rf"{flag} is required \(or set SIGLIP_MODEL\)"):
        load(cls, {})


def test_worker_needs_its_tower() -> None:
    with pytest.raises(SettingsError, match="--tower is required"):
        load(WorkerSettings, {}, model="m")


def test_empty_variable_is_absent() -> None:
    assert load(GatewaySettings, {"SIGLIP_REDIS_URL": "", "SIGLIP_MAX_TEXTS": "", "SIGLIP_MODEL": "m"})
    with pytest.raises(SettingsError, match="--model is required"):
        load(GatewaySettings, {"SIGLIP_MODEL": ""})


def test_argument_that_is_no_setting_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="has no setting 'redis'"):
        load(GatewaySettings, {}, model="m", redis="x")


def test_source_of_a_value_is_known() -> None:
    known = {s.name: s for s in settings_of(ClientSettings)}
    environ = {"SIGLIP_TIMEOUT_S": "3"}
    assert resolve(known["timeout_s"], environ).source == "SIGLIP_TIMEOUT_S"
    assert resolve(known["timeout_s"], environ, "4").source == "--timeout-s"
    assert resolve(known["address"], environ).source == "default"


def test_a_setting_is_defined_once() -> None:
    tables = (Path(siglip_settings.__file__).parent / "tables.py").read_text()
    names = re.findall(r"^    (\w+): .*= setting\(", tables, re.MULTILINE)
    assert len(names) == len(set(names)), "defined twice"
    assert set(names) == set(all_settings()), "a settings class is missing from the registry"


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_every_setting_is_described_and_its_default_is_allowed(cls: type) -> None:
    for known in settings_of(cls):
        assert known.help.endswith("."), known.name
        if not known.required and known.default is not None:
            assert resolve(known, {known.variable: str(known.default)}).value == known.default
        if known.name.endswith(("_s", "_bytes")):
            assert known.unit, f"{known.name} has no unit"


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GatewaySettings(model="m").max_texts = 3  # type: ignore[misc]


def test_plain_field_is_refused() -> None:
    @dataclass(frozen=True)
    class Plain:
        mode: Literal["a"] = "a"

    with pytest.raises(TypeError, match="mode is a plain field"):
        settings_of(Plain)


def test_served_towers() -> None:
    assert GatewaySettings(model="m").served_towers == ("text", "vision")
    assert GatewaySettings(model="m", towers="vision").served_towers == ("vision",)


def test_imports_nothing_but_the_standard_library() -> None:
    code = "import sys, siglip_settings; print(*{m.split('.')[0] for m in sys.modules})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(printed.split()) & {"numpy", "torch", "redis", "grpc", "click", "google"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://queue:6379/1", "redis://queue:6379/1"),
        ("redis://user:pa:ss@queue:6379", "redis://user:***@queue:6379"),
        ("rediss://:p%40ss@queue/0?password=x", "rediss://:***@queue/0?***"),
        ("unix:///run/q.sock", "unix:///run/q.sock"),
        ("unix://user:word@/run/q.sock", "unix://user:***@/run/q.sock"),
        ("hunter2", "***"),
        ("redis://[broken", "***"),
        ("redis://u:pa/ss@host:6379/0", "***"),
        ("redis://u:pa#ss@host", "***"),
        ("redis://u:pa?ss@host", "***"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    [setting] = [s for s in all_settings().values() if s.name == "redis_url"]
    assert masked(resolve(setting, {"SIGLIP_REDIS_URL": url})) == shown


@pytest.mark.parametrize("secret", ["hunter2", "redis://hunter2@queue"])
def test_nothing_is_shown_of_a_password_whatever_it_looks_like(secret: str) -> None:
    for setting in (all_settings()["redis_password"], all_settings()["token"]):
        assert masked(resolve(setting, {setting.variable: secret})) == "***"
