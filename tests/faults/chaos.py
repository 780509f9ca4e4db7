"""`make chaos MINUTES=10 SEED=1`: a deployment under load while its parts are killed, stopped and drained.

Some requests kill every worker that computes them, and all clocks are wrong (where libfaketime is). Every
request must end exactly once, with the right vectors or with a named error in time, and nothing may be left
in the queue. The same seed gives the same faults in the same order.
"""

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from broker import EmbeddedServer
from tests.faults.fleet import CHECKPOINT, Fleet, Part, running
from tests.faults.load import END_S, Book, Caller, load, right_answers
from tests.support.clocks import LIBRARY, half_each_way

CALLERS = 6
MORTAL = "tests.support.mortal_worker"


class Chaos:
    """Runs one fault after the other; each repairs what it broke."""

    def __init__(self, fleet: Fleet, poisoner: Caller, seed: int) -> None:
        self._fleet, self._poisoner, self._random = fleet, poisoner, random.Random(seed)
        self.done: Counter[str] = Counter()
        self._poisoned: list[threading.Thread] = []
        self._faults: list[tuple[int, str, Callable[[], None]]] = [
            (6, "worker killed", lambda: self._again(self._worker(), signal.SIGKILL)),
            (4, "worker stopped and resumed", self._freeze),
            (3, "worker drained", lambda: self._again(self._worker(), signal.SIGTERM)),
            (2, "queue killed, restarted empty", fleet.kill_queue),
            (2, "queue flushed", fleet.flush_queue),
            (2, "gateway drained", lambda: self._again(self._gateway(), signal.SIGTERM)),
            (1, "gateway killed", lambda: self._again(self._gateway(), signal.SIGKILL)),
            (1, "poison sent", self._poison),
        ]

    def strike(self) -> None:
        weights = [weight for weight, _, _ in self._faults]
        ((_, name, fault),) = self._random.choices(self._faults, weights)
        fault()
        self.done[name] += 1
        self._pause(0.2, 1.5)

    def settle(self) -> None:
        """Waits until nothing is queued, poison least of all, and every worker lives; for END_S at most."""
        end_s = time.monotonic() + END_S
        while self._unsettled() and time.monotonic() < end_s:
            self._pause(0.1, 0.1)

    def _unsettled(self) -> bool:
        poisoned = any(thread.is_alive() for thread in self._poisoned)
        lacking = self._fleet.live_workers() < len(self._fleet.workers) or not self._fleet.serves()
        return poisoned or lacking or bool(self._fleet.left_overs())

    def _worker(self) -> Part:
        return self._random.choice(self._fleet.workers)

    def _gateway(self) -> Part:
        return self._random.choice(self._fleet.gateways)

    def _again(self, part: Part, number: int) -> None:
        part.end(number)
        self._pause(0, 1)
        part.start()

    def _freeze(self) -> None:
        """Longer than its lease lasts, some of the times."""
        worker = self._worker()
        worker.send(signal.SIGSTOP)
        self._pause(0.5, 4)
        worker.send(signal.SIGCONT)

    def _poison(self) -> None:
        thread = threading.Thread(target=self._poisoner.poison, daemon=True)
        thread.start()
        self._poisoned.append(thread)

    def _pause(self, least_s: float, most_s: float) -> None:
        """Starts what ended meanwhile: workers by poison, gateways that found no queue when they started."""
        end_s = time.monotonic() + self._random.uniform(least_s, most_s)
        while (left_s := end_s - time.monotonic()) > 0:
            if killed := self._fleet.revive():
                self.done["worker killed by poison"] += killed
            time.sleep(min(0.1, left_s))


def run(seconds: float, seed: int, callers: int = CALLERS) -> tuple[Book, Counter[str], dict[str, object]]:
    """How the requests ended, which faults there were, and what was left in the queue."""
    answers = right_answers(CHECKPOINT)
    with (
        tempfile.TemporaryDirectory(prefix="siglip-chaos-") as folder,
        EmbeddedServer() as queue,
        running(queue, Path(folder), environ_of=half_each_way, worker_program=MORTAL) as fleet,
    ):
        with load(fleet.address, answers, callers=callers, seed=seed) as book:
            poisoner = Caller(fleet.address, answers, book, f"{seed}/poison", 0)
            chaos, end_s = Chaos(fleet, poisoner, seed), time.monotonic() + seconds
            while time.monotonic() < end_s:
                chaos.strike()
        chaos.settle()
        if LIBRARY:
            chaos.done["part whose clock is 10 minutes off"] = len(fleet.parts)
        return book, chaos.done, fleet.left_overs()


def table(book: Book, faults: Counter[str], left: dict[str, object]) -> str:
    rows = [("requests sent", book.sent), ("answered rightly", book.right)]
    rows += [(f"error {code}", count) for code, count in sorted(book.errors.items())]
    rows += [("lost", book.lost), ("duplicated or miscounted", book.miscounted), ("wrong", book.wrong)]
    rows += [("later than their deadline", book.late), ("entries left in the queue", len(left))]
    rows += [(f"fault: {name}", count) for name, count in sorted(faults.items())]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {count:>8,}" for name, count in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    book, faults, left = run(options.minutes * 60, options.seed)
    print(table(book, faults, left))
    bad = book.bad or left
    print("FAILED" if bad else "every request ended exactly once", f"(seed {options.seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    threading.excepthook = lambda broken: print(f"a caller broke: {broken.exc_value!r}", file=sys.stderr)
    sys.exit(main())
