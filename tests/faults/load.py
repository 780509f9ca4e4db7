"""Callers whose every request has a known right answer, and the book of how each one ended."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from siglip_client import Client, SiglipError
from siglip_model import SiglipModel, SiglipProcessor
from siglip_model.image_processing import ImageLimits, decode
from tests.gateway.rig import picture
from tests.support.mortal_worker import deadly_picture
from tests.support.valkey import wait_until

TEXTS = [
    f"a {colour} {shape} {number}"
    for number in range(5)
    for colour in ("red", "blue", "green")
    for shape in ("star", "cube")
]
PICTURES = [picture(seed, size=(70 + seed, 50)) for seed in range(24)]
DEADLY_PICTURE = deadly_picture()
BROKEN = b"no picture at all"
TIMEOUT_S = 20.0
LATE_S = 5.0  # after its deadline a call must have ended
END_S = 40.0
TOLERANCE = 1e-5

Vectors = npt.NDArray[np.float32]


@torch.inference_mode()
def right_answers(checkpoint: Path) -> tuple[Vectors, Vectors]:
    """Vectors of TEXTS and PICTURES, computed here, without any service."""
    model, processor = (
        SiglipModel.from_pretrained(checkpoint).eval(),
        SiglipProcessor.from_pretrained(checkpoint),
    )
    length = model.config.text_config.max_position_embeddings
    ids, _ = processor.tokenizer.encode_batch(TEXTS, length)
    side, resample = model.config.vision_config.image_size, processor.image_processor.resample
    rows = np.stack([decode(image, ImageLimits(), (side, side), resample) for image in PICTURES])
    pixels = torch.from_numpy(rows).float() / 127.5 - 1
    texts = model.get_text_features(torch.from_numpy(ids).long(), normalize=True)
    return texts.numpy(), model.get_image_features(pixels, normalize=True).numpy()


@dataclass
class Book:
    """How requests ended: each exactly once."""

    sent: int = 0
    right: int = 0
    wrong: int = 0
    miscounted: int = 0
    late: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lost(self) -> int:
        """Sent, and never ended."""
        return self.sent - self.right - self.wrong - self.miscounted - sum(self.errors.values())

    @property
    def bad(self) -> int:
        """Requests that ended as none may, whatever the fault was."""
        return self.lost + self.miscounted + self.wrong + self.late + self.errors["INTERNAL"]

    def note(self, outcome: str, took_s: float, timeout_s: float) -> None:
        with self.lock:
            self.late += took_s > timeout_s + LATE_S
            self.longest_s = max(self.longest_s, took_s)
            if outcome in ("right", "wrong", "miscounted"):
                setattr(self, outcome, getattr(self, outcome) + 1)
            else:
                self.errors[outcome] += 1


class Caller(threading.Thread):
    """Calls without a pause until told to stop."""

    def __init__(
        self, address: str, answers: tuple[Vectors, Vectors], book: Book, seed: str, hopeless: float
    ) -> None:
        super().__init__(name=f"caller {seed}", daemon=True)
        self._address, self._answers, self._book = address, answers, book
        self._random, self._hopeless = random.Random(seed), hopeless
        self.stopping = threading.Event()

    def run(self) -> None:
        with Client(self._address, timeout_s=TIMEOUT_S) as client:
            while not self.stopping.is_set():
                # These have no chance: their deadline must be told, and nothing else.
                timeout_s = 0.003 if self._random.random() < self._hopeless else TIMEOUT_S
                with self._book.lock:
                    self._book.sent += 1
                began = time.monotonic()
                try:
                    outcome = (
                        self._texts(client, timeout_s)
                        if self._random.random() < 0.5
                        else self._images(client, timeout_s)
                    )
                except SiglipError as error:
                    outcome = error.code.name
                self._book.note(outcome, time.monotonic() - began, timeout_s)

    def _texts(self, client: Client, timeout_s: float) -> str:
        chosen = self._random.choices(range(len(TEXTS)), k=self._random.choice((1, 1, 5, 30)))
        found = client.embed_texts([TEXTS[i] for i in chosen], timeout_s=timeout_s).vectors
        return self._verdict(found, self._answers[0][chosen])

    def _images(self, client: Client, timeout_s: float) -> str:
        chosen = self._random.choices(range(len(PICTURES)), k=self._random.choice((1, 1, 3, 10)))
        images = [PICTURES[i] for i in chosen]
        if self._random.random() >= 0.1:
            return self._verdict(
                client.embed_images(images, timeout_s=timeout_s).vectors, self._answers[1][chosen]
            )
        # A broken one among them: that item's error, and the others' vectors.
        result = client.embed_images([*images, BROKEN], timeout_s=timeout_s, on_error="return")
        failures = [(error.index, error.reason) for error in result.errors]
        if any(reason != "IMAGE_UNREADABLE" for _, reason in failures):
            return "ITEM_" + next(reason for _, reason in failures if reason != "IMAGE_UNREADABLE")
        if failures != [(len(images), "IMAGE_UNREADABLE")]:
            return "miscounted"
        return self._verdict(result.vectors[:-1], self._answers[1][chosen])

    def poison(self) -> None:
        """One call with a deadly picture among others: they have their vectors, or it all a named error."""
        chosen, began = self._random.choices(range(len(PICTURES)), k=2), time.monotonic()
        images = [PICTURES[chosen[0]], DEADLY_PICTURE, PICTURES[chosen[1]]]
        with self._book.lock:
            self._book.sent += 1
        with Client(self._address, timeout_s=TIMEOUT_S) as client:
            try:
                result = client.embed_images(images, on_error="return")
            except SiglipError as error:
                outcome = error.code.name
            else:
                reasons = {error.index: error.reason for error in result.errors}
                good = [index for index in (0, 2) if index not in reasons]
                found = self._verdict(result.vectors[good], self._answers[1][[chosen[i // 2] for i in good]])
                # A vector of the deadly one would be from nowhere.
                outcome = reasons.get(1, "wrong") if found == "right" else found
        self._book.note(outcome, time.monotonic() - began, TIMEOUT_S)

    def _verdict(self, found: Vectors, wanted: Vectors) -> str:
        if found.shape != wanted.shape:
            return "miscounted"
        return "right" if np.abs(found - wanted).max(initial=0) <= TOLERANCE else "wrong"


@contextmanager
def load(
    address: str, answers: tuple[Vectors, Vectors], *, callers: int, seed: object, hopeless: float = 0.02
) -> Iterator[Book]:
    """Callers without a pause for as long as the block lasts; after it all of their requests have ended.

    `hopeless`: the share of requests that get 3 ms.
    """
    book = Book()
    threads = [Caller(address, answers, book, f"{seed}/{number}", hopeless) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield book
    finally:
        for thread in threads:
            thread.stopping.set()
        end_s = time.monotonic() + END_S
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))


def under_way(book: Book) -> None:
    """Calls are answered right now."""
    before = book.right
    wait_until(lambda: book.right > before + 20)
