"""The Python client's program through some cases: a real gateway and queue, stand-ins for the models."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siglip_model import SiglipTokenizer
from tests.client.gateway_process import ROOT, GatewayProcess, mortal_gateway
from tests.conformance.clients import every_client
from tests.conformance.inputs import write_inputs
from tests.conformance.planning import read_cases
from tests.conformance.trial import Outcome, Run
from tests.support.slow_model import vector_of
from tests.support.valkey import free_port

[PYTHON] = [client for client in every_client() if client.language == "Python"]
DIM, TEXT_LENGTH = 32, 64
CASES = read_cases(
    [
        "texts-f16",
        "texts-not-normalized",
        "older-server",
        "newer-server",
        "no-texts",
        "too-many-texts",
        "unknown-enum-value",
        "unknown-label-set",
        "deadline-past",
        "nobody",
        "newer-dtype",
        "newer-details",
        "retry-exhausted-with-pushback",
        "no-retry-without-pushback",
        "place-in-stream",
        "stream-of-nothing",
        "stream-refused-once",
        "stream-refused",
        "stream-that-falls-silent",
        "stream-to-another-model",
        "stream-through-a-kill",
    ]
)


class OneGateway:
    """What a run needs of a service."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.killed = 0

    def endpoints(self) -> dict[str, Any]:
        here = {"address": self._gateway.address}
        return {"plain": here, "mortal": here, "nobody": {"address": f"127.0.0.1:{free_port()}"}}

    def kill(self, name: str) -> None:
        self.killed += 1
        self._gateway.end(signal.SIGKILL)
        self._gateway.start()


class FakeAnswers:
    """The vectors of the stand-in models, which follow from the token ids."""

    def __init__(self, checkpoint: Path) -> None:
        self._tokenizer = SiglipTokenizer.from_pretrained(checkpoint)

    def texts(self, texts: list[str], normalize: bool = True) -> Any:
        ids = self._tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True)
        rows = [vector_of(np.array(row, "<i4").tobytes(), DIM) for row in ids["input_ids"]]
        return np.stack([unit if normalize else unit * length for unit, length in rows])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outcome, OneGateway]]:
    folder = tmp_path_factory.mktemp("conformance")
    with mortal_gateway(folder) as gateway:
        service, inputs = OneGateway(gateway), write_inputs(folder / "inputs")
        answers: Any = FakeAnswers(folder / "tiny")
        yield Run(CASES, service, inputs, answers).through(PYTHON, folder), service


@pytest.mark.parametrize("name", [case["name"] for case in CASES])
def test_the_python_client_keeps_the_contract(ran: tuple[Outcome, OneGateway], name: str) -> None:
    assert ran[0].problems[name] == []


def test_the_gateway_was_killed_once(ran: tuple[Outcome, OneGateway]) -> None:
    assert ran[1].killed == 1


def test_the_example_of_the_python_client_runs(ran: tuple[Outcome, OneGateway]) -> None:
    """It wants a picture that the service refuses, too."""
    address = ran[1].endpoints()["plain"]["address"]
    command = [sys.executable, "example.py", address, str(ROOT / "samples" / "red-circle.jpg")]
    done = subprocess.run(command, cwd=PYTHON.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ("a red circle", "IMAGE_UNREADABLE", "FIELD_EMPTY", "1000 results"):
        assert part in done.stdout


@pytest.mark.slow
def test_all_cases_with_the_demo_checkpoint() -> None:
    command = [sys.executable, "-m", "tests.conformance.run", "--language", "python"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(read_cases())} of {len(read_cases())} cases passed" in done.stdout
