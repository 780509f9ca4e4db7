"""Callers who check each answer against the revision that it names, while revisions come and go."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from siglip_client import Client, ModelInfo, SiglipError
from siglip_model.files import read_scalars
from siglip_model.fingerprint import fingerprint
from tests.faults.load import END_S, PICTURES, TEXTS, TIMEOUT_S, TOLERANCE, right_answers

Vectors = npt.NDArray[np.float32]
# Logits are more than a hundred times as far apart as cosines.
LOGIT_TOLERANCE = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Revision:
    """What a checkpoint answers, computed here without any service."""

    checkpoint: Path
    fingerprint: str
    texts: Vectors
    pictures: Vectors
    scale: float
    bias: float

    @classmethod
    def of(cls, checkpoint: Path) -> "Revision":
        return cls(checkpoint, fingerprint(checkpoint), *right_answers(checkpoint), *read_scalars(checkpoint))

    def logits(self, pictures: Sequence[int], texts: Sequence[int]) -> Vectors:
        """[pictures, texts]"""
        return self.pictures[pictures] @ self.texts[texts].T * self.scale + self.bias


@dataclass
class Ledger:
    """Answers by the fingerprint that they name; calls that failed, by code and reason."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lost(self) -> int:
        """Sent, and never ended."""
        return self.sent - self.answers.total() - self.failed.total()


class Asker(threading.Thread):
    """Asks for one model without a pause: vectors, scores, and labels by a set made in the beginning."""

    def __init__(
        self, address: str, name: str, revisions: Mapping[str, Revision], ledger: Ledger, seed: str
    ) -> None:
        super().__init__(name=f"asker {seed}", daemon=True)
        self._name, self._revisions, self._ledger = name, revisions, ledger
        self._random = random.Random(seed)
        self._client = Client(address, model=name, timeout_s=TIMEOUT_S, connections=2)
        self._labels = self._random.sample(range(len(TEXTS)), 6)
        self._set = self._client.create_label_set([TEXTS[i] for i in self._labels], ["{}"])
        self.stopping = threading.Event()

    def run(self) -> None:
        asks = (self._texts, self._pictures, self._score, self._classify)
        with self._client:
            while not self.stopping.is_set():
                with self._ledger.lock:
                    self._ledger.sent += 1
                ask = self._random.choice(asks)
                try:
                    info, is_right = ask()
                except SiglipError as error:
                    with self._ledger.lock:
                        self._ledger.failed[f"{error.code.name} {error.reason or error.message}"] += 1
                else:
                    self._note(info, is_right, ask.__name__)

    def _note(self, info: ModelInfo, is_right: bool, asked: str) -> None:
        with self._ledger.lock:
            self._ledger.answers[info.fingerprint] += 1
            if not is_right or info.name != self._name:
                self._ledger.wrong.append(f"{asked} of {self._name}: {info}")

    def _some(self, count: int, most: int) -> list[int]:
        return self._random.choices(range(count), k=self._random.randint(1, most))

    def _texts(self) -> tuple[ModelInfo, bool]:
        chosen = self._some(len(TEXTS), 20)
        found = self._client.embed_texts([TEXTS[i] for i in chosen])
        return found.model, self._near(found.vectors, self._of(found.model).texts[chosen])

    def _pictures(self) -> tuple[ModelInfo, bool]:
        chosen = self._some(len(PICTURES), 4)
        found = self._client.embed_images([PICTURES[i] for i in chosen])
        return found.model, self._near(found.vectors, self._of(found.model).pictures[chosen])

    def _score(self) -> tuple[ModelInfo, bool]:
        pictures, texts = self._some(len(PICTURES), 3), self._some(len(TEXTS), 6)
        found = self._client.score([PICTURES[i] for i in pictures], [TEXTS[i] for i in texts])
        wanted = self._of(found.model).logits(pictures, texts)
        return found.model, self._near(found.logits, wanted, LOGIT_TOLERANCE)

    def _classify(self) -> tuple[ModelInfo, bool]:
        pictures = self._some(len(PICTURES), 3)
        found = self._client.classify([PICTURES[i] for i in pictures], self._set)
        logits = np.array([[s.logit for s in sorted(image, key=lambda s: s.index)] for image in found])
        wanted = self._of(found.model).logits(pictures, self._labels)
        return found.model, self._near(logits, wanted, LOGIT_TOLERANCE)

    def _of(self, info: ModelInfo) -> Revision:
        return self._revisions[info.fingerprint]

    def _near(self, found: Vectors, wanted: Vectors, tolerance: float = TOLERANCE) -> bool:
        return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= tolerance)


@contextmanager
def asked(address: str, names: Mapping[str, Sequence[Revision]], *, askers_each: int = 2) -> Iterator[Ledger]:
    """Askers of each name, whose answers may be of its revisions; all of their calls end with the block."""
    ledger = Ledger()
    askers = [
        Asker(address, name, {each.fingerprint: each for each in revisions}, ledger, f"{name}/{number}")
        for name, revisions in names.items()
        for number in range(askers_each)
    ]
    for asker in askers:
        asker.start()
    try:
        yield ledger
    finally:
        for asker in askers:
            asker.stopping.set()
        end_s = time.monotonic() + END_S
        for asker in askers:
            asker.join(max(0.0, end_s - time.monotonic()))
