"""`siglip acl`, and what `siglip doctor` says of the users that it prints."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from broker import ROLES, EmbeddedServer, rules_of
from siglip_cli.commands.doctor import doctor
from siglip_cli.main import run
from tests.support.roles import PASSWORD, as_user, set_user
from tests.support.valkey import debian_redis, looking

Captured = pytest.CaptureFixture[str]
DIGEST = hashlib.sha256(PASSWORD.encode()).hexdigest()


def findings(capsys: Captured, url: str, *arguments: str) -> dict[str, tuple[str, str]]:
    run(["doctor", "--json", "--redis-url", url, "--address", "127.0.0.1:1", *arguments])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["what"]: (line["level"], line["text"]) for line in lines}


def test_the_lines_make_users_that_doctor_knows(capsys: Captured, embedded: EmbeddedServer) -> None:
    for role in ROLES:
        assert run(["acl", role, "--password-sha256", DIGEST]) == 0
        line = capsys.readouterr().out
        with looking(embedded.url) as connection:
            connection.execute_command(*line.split())
        found = findings(capsys, as_user(embedded.url, f"siglip-{role}"))
        assert found["permissions"] == ("ok", f"enough for: {role}")
        assert ("queue" in found) == (role != "scaler")
        assert ("workers" in found) == (role != "operator")
    with looking(embedded.url) as connection:
        connection.execute_command("ACL", "DELUSER", *(f"siglip-{role}" for role in ROLES))


@pytest.mark.parametrize("command", [["top", "--once", "--every-s", "0.1"], ["dead-letter", "list"]])
def test_an_operators_command_asks_for_an_operator(
    capsys: Captured, embedded: EmbeddedServer, command: list[str]
) -> None:
    set_user(embedded.url, "poor", rules_of("gateway"))
    assert run([*command, "--redis-url", as_user(embedded.url, "poor")]) == 3
    assert "this needs the operator's user ('siglip acl operator')" in capsys.readouterr().err
    with looking(embedded.url) as connection:
        connection.execute_command("ACL", "DELUSER", "poor")


@pytest.mark.parametrize("hosts", ["127.0.0.1:1,127.0.0.1:2", "127.0.0.1:none"])
def test_doctor_takes_every_url(capsys: Captured, hosts: str) -> None:
    found = findings(capsys, f"rediss://me:secret@{hosts}", "--redis-cluster", "on")
    level, text = found["queue"]
    assert level == "problem" and "secret" not in text


def test_doctor_knows_the_same_roles() -> None:
    (option,) = [each for each in doctor.params if each.name == "role"]
    assert tuple(option.type.choices) == ROLES  # type: ignore[attr-defined]


def test_a_role_is_printed_once(capsys: Captured) -> None:
    assert run(["acl", "worker", "gateway", "worker"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_nobody_gets_the_password_of_the_example(capsys: Captured, embedded: EmbeddedServer) -> None:
    assert run(["acl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == [f"siglip-{role}" for role in ROLES]
    with looking(embedded.url) as connection, pytest.raises(ResponseError, match="hash"):
        connection.execute_command(*lines[0].split())


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on this machine")
def test_the_lines_are_an_aclfile(capsys: Captured, tmp_path: Path) -> None:
    lines = ["user default off"]
    for role in ROLES:
        run(["acl", role, "--form", "file", "--password-sha256", DIGEST])
        lines.append(capsys.readouterr().out)
    (tmp_path / "users.acl").write_text("\n".join(lines))
    with debian_redis(tmp_path, "--aclfile", str(tmp_path / "users.acl")) as url:
        found = findings(capsys, as_user(url, "siglip-operator"))
        assert found["permissions"] == ("ok", "enough for: operator")
        assert "Authentication required" in findings(capsys, url)["queue"][1]


@pytest.mark.parametrize(
    ("rules", "arguments", "found"),
    [
        ("gateway -info", [], ("warning", "enough for: gateway; but INFO is denied")),
        ("gateway -time", [], ("problem", "this user lacks for a gateway: TIME")),
        ("operator -time", ["--role", "operator"], ("problem", "this user lacks for an operator: TIME")),
        ("gateway", ["--role", "scaler"], ("problem", "this user lacks for a scaler: PING")),
    ],
)
def test_what_is_lacking_is_told(
    capsys: Captured, embedded: EmbeddedServer, rules: str, arguments: list[str], found: tuple[str, str]
) -> None:
    role, _, less = rules.partition(" ")
    set_user(embedded.url, "poor", f"{rules_of(role)} {less}".strip())  # type: ignore[arg-type]
    assert findings(capsys, as_user(embedded.url, "poor"), *arguments)["permissions"] == found
    with looking(embedded.url) as connection:
        connection.execute_command("ACL", "DELUSER", "poor")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cook"], "ROLE is 'cook'; allowed: gateway, worker, operator, scaler"),
        (["gateway", "--password-sha256", "secret"], "must be 64 hexadecimal digits"),
        (["--password-sha256", DIGEST], "needs one ROLE: each user gets a password of its own"),
    ],
)
def test_mistakes_are_one_line(capsys: Captured, arguments: list[str], told: str) -> None:
    assert run(["acl", *arguments]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
