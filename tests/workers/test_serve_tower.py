"""How a worker ends when its device breaks."""

from typing import Any

import pytest

from workers import serve


class Broker:
    def __init__(self) -> None:
        self.done: list[str] = []

    def flush(self, timeout_s: float) -> None:
        self.done.append("what is answered is sent")

    def close(self) -> None:
        self.done.append("the rest is handed back")


@pytest.mark.parametrize(
    ("event", "done"),
    [
        (RuntimeError("the device is gone"), ["what is answered is sent", "ends with 1"]),
        (None, ["the rest is handed back"]),
    ],
)
def test_what_a_broken_device_held_is_not_handed_back(
    monkeypatch: pytest.MonkeyPatch, event: Any, done: list[str]
) -> None:
    broker: Any = Broker()
    monkeypatch.setattr(serve, "_exit_at_once", lambda status: broker.done.append(f"ends with {status}"))
    serve._end(broker, event)
    assert broker.done == done
