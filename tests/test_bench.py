"""What `make bench` counts, on calls whose times are known."""

import asyncio
import io
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks.service import inputs, load
from benchmarks.service.book import Book, rate
from siglip_model import SiglipTokenizer


async def test_open_loop_counts_from_when_a_call_was_due() -> None:
    """One that holds up the generator itself makes the calls of that time late: none of it is omitted."""
    book, begun_s = Book(), time.monotonic()

    async def call(number: int) -> None:
        if len(book.answers) == 0:
            time.sleep(0.3)  # noqa: ASYNC251
        book.ending = time.monotonic() - begun_s > 0.35

    await asyncio.wait_for(load.opened(call, 200, book), 20)
    latencies = np.array([done_s - due_s for due_s, done_s in book.answers])
    assert latencies.max() >= 0.29
    assert (latencies > 0.1).sum() >= 10  # about 40 were due while it slept


async def test_closed_loop_has_so_many_in_flight_and_counts_failures() -> None:
    book, now, most = Book(), 0, 0

    async def call(number: int) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0)
        now -= 1
        book.ending = book.errors.total() >= 3
        raise ConnectionError

    await asyncio.wait_for(load.closed(call, 7, book), 20)
    assert (most, book.answers, set(book.errors)) == (7, [], {"ConnectionError"})


def test_rate_is_from_answer_to_answer() -> None:
    """Four each second, all at once: wherever the span begins and ends."""
    done_s = [float(second) for second in range(10) for _ in range(4)]
    assert rate(done_s, 1.9, 5.1) == rate(done_s, 1.1, 5.9) == pytest.approx(4)
    assert rate([], 0, 1) == rate([0.5], 0, 1) == 0


def test_no_two_pictures_are_equal_but_as_hard_to_decode() -> None:
    first, again = inputs.picture(0), inputs.picture(inputs.PICTURES)
    assert first != again
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (first, again)]
    assert pixels[0].shape == (480, 640, 3)
    assert np.array_equal(*pixels)


def test_no_two_texts_are_equal_to_the_model() -> None:
    """The cache compares token ids, and a vocabulary may not know digits."""
    tokenizer = SiglipTokenizer.from_pretrained("checkpoints/shapes")
    ids = tokenizer([inputs.text(number) for number in range(2000)], padding="max_length").input_ids
    assert len({tuple(row) for row in ids}) == 2000
