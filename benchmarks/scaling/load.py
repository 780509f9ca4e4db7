"""Streams that keep every gateway busy, and how many answers come."""

import threading
import time
from collections.abc import Iterator

from benchmarks.scaling.plan import Step
from benchmarks.service import cpu
from siglip_client import Client, TextItem

SETTLING_S = 3.0


class Load:
    """One stream to one gateway, in a thread, until it is stopped."""

    def __init__(self, address: str) -> None:
        self.answered = 0
        self.failure: BaseException | None = None
        self._address = address
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Raises what ended the stream before its time."""
        self._stopping.set()
        self._thread.join()
        if self.failure:
            raise self.failure

    def _run(self) -> None:
        try:
            with Client(self._address) as client:
                for result in client.embed_stream(self._texts()):
                    if result.error:
                        raise RuntimeError(result.error.message)
                    self.answered += 1
        except Exception as error:
            self.failure = error

    def _texts(self) -> Iterator[TextItem]:
        number = 0
        while not self._stopping.is_set():
            yield TextItem(number, f"text {number}")
            number += 1


def measure(step: Step, addresses: list[str], seconds: float) -> None:
    """Fills in the step's rate and busy cores."""
    loads = [Load(address) for address in addresses]
    time.sleep(SETTLING_S)
    begun_s, answered, spent_s = time.monotonic(), _answered(loads), cpu.seconds()
    time.sleep(seconds)
    took_s = time.monotonic() - begun_s
    step.rate = (_answered(loads) - answered) / took_s
    step.cores = {name: each_s / took_s for name, each_s in cpu.between(spent_s, cpu.seconds()).items()}
    for load in loads:
        load.stop()


def _answered(loads: list[Load]) -> int:
    return sum(load.answered for load in loads)
