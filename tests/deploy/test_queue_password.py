"""A queue's password of any characters: through the commands of compose and chart into a real server."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import yaml

from broker.connection import sync_client
from broker.embedded import server_binary
from siglip_settings import GatewaySettings, load
from tests.deploy.manifests import container, environ, named
from tests.support.valkey import free_port, wait_until

COMPOSE = yaml.safe_load(Path("deploy/compose.yaml").read_text())["services"]
COMMANDS = {
    # In this file $$ is how one writes $.
    "compose": [word.replace("$$", "$") for word in COMPOSE["queue"]["command"]],
    "chart": ["sh", "-c", *container(named("minimal", "Deployment", "queue"))["args"]],
}
PASSWORDS = [
    "plain",
    "it's",
    'say "x"',
    "a b",
    "$HOME `id` $(id)",
    "me:you@host/#?%41",
    "\\ \\n",
    "two\nlines\n",
]


@contextmanager
def queue(command: list[str], password: str, folder: Path) -> Iterator[int]:
    """The port of the server that the command of a container starts."""
    port = free_port()
    server = folder / "valkey-server"
    server.write_text(f'#!/bin/sh\nexec {server_binary()} "$@" --port {port} --bind 127.0.0.1\n')
    server.chmod(0o700)
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "QUEUE_PASSWORD": password}
    with subprocess.Popen(command, env=given, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def answers(port: int, password: str | None) -> bool:
    """Raises redis.AuthenticationError and the like."""
    variables = {"SIGLIP_MODEL": "m", "SIGLIP_REDIS_URL": f"redis://127.0.0.1:{port}"}
    settings = load(GatewaySettings, variables | ({"SIGLIP_REDIS_PASSWORD": password} if password else {}))
    with sync_client(settings) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            raise
        except redis.ConnectionError:
            return False


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_gateways_get_in_with_it_and_with_no_other(command: list[str], password: str, tmp_path: Path) -> None:
    with queue(command, password, tmp_path) as port:
        wait_until(lambda: answers(port, password))
        for wrong in (f"{password}x", None):
            with pytest.raises(redis.AuthenticationError):
                answers(port, wrong)


def test_both_sides_take_it_from_the_same_place() -> None:
    ours = [each for name, each in COMPOSE.items() if name.endswith(("worker", "-1", "-2"))]
    taken = COMPOSE["queue"]["environment"]["QUEUE_PASSWORD"]
    assert ours and all(each["environment"]["SIGLIP_REDIS_PASSWORD"] == taken for each in ours)
    password = environ(named("minimal", "Deployment", "queue"))["QUEUE_PASSWORD"]
    for name in ("base-gateway", "base-text"):
        assert environ(named("minimal", "Deployment", name))["SIGLIP_REDIS_PASSWORD"] == password
