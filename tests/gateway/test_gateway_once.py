"""The parts of the cache by themselves: digests, what is remembered and forgotten, equal work at once."""

import asyncio
import sys
import tracemalloc
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, get_args

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from broker import BrokerUnavailable, DeadlineExceeded, Row, WorkerInfo
from gateway.access import Caller
from gateway.cache import ENTRY_BYTES, Cache
from gateway.call import Call
from gateway.content_keys import ContentKeys, Kind
from gateway.embedded import Embedded
from gateway.errors import ItemFailure
from gateway.metrics import Metrics
from gateway.once import Once
from tests.gateway.rig import until

KINDS = get_args(Kind)
contents = st.tuples(st.sampled_from(KINDS), st.lists(st.binary(max_size=4), min_size=1, max_size=3))


@given(contents, contents, st.sampled_from(["f1", "f2"]), st.sampled_from(["f1", "f2"]))
def test_digests_are_equal_for_equal_contents_only(one: Any, two: Any, mine: str, other: str) -> None:
    first, second = ContentKeys(mine).of(one[0], *one[1]), ContentKeys(other).of(two[0], *two[1])
    assert (first == second) == ((mine, one) == (other, two))


def test_the_oldest_use_goes_first_and_the_bytes_are_those_that_it_takes() -> None:
    cache: Cache[bytes] = Cache(3 * (ENTRY_BYTES + 10))
    for key in (b"a", b"b", b"c"):
        cache.put(key, key * 10, 10)
    assert cache.get(b"a") == b"a" * 10
    cache.put(b"d", b"d" * 10, 10)
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    cache.put(b"a", b"A" * 10, 10)
    assert cache.get(b"a") == b"A" * 10 and cache.bytes == 3 * (ENTRY_BYTES + 10)
    cache.put(b"large", b"", 4000)
    assert cache.get(b"large") is None and len(cache) == 3


def test_an_entry_takes_no_more_than_it_is_counted_for() -> None:
    cache: Cache[Row] = Cache(1 << 30)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(2000):
        vector = number.to_bytes(4, "little") * 768
        cache.put(number.to_bytes(32, "little"), Row(vector, float(number) + 0.5, "cpu"), len(vector))
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.8 * cache.bytes < taken <= cache.bytes, sys.version


@dataclass
class Pool:
    """Workers of some kinds, in the broker's place."""

    dtypes: tuple[str, ...] = ("float32",)

    async def workers(self, _: str) -> list[WorkerInfo]:
        return [WorkerInfo("w", "text", "cuda:0", dtype, "sdpa", "f") for dtype in self.dtypes]


class Calls:
    """Calls of some callers through one `Once`, and what is computed for them."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool or Pool()
        self.once = Once(self.pool, Metrics(CollectorRegistry()).of("tiny"), Cache(1 << 20))  # type: ignore[arg-type]
        self.computed: list[str] = []
        self.may_answer = asyncio.Event()
        self.fault: Exception | ItemFailure | None = None

    def embed(self, keys: list[bytes], caller: str = "me", left_s: float = 10.0) -> Awaitable[Embedded]:
        call = Call("m", "r", asyncio.get_running_loop().time() + left_s, caller=Caller(caller))

        async def compute(positions: Any) -> Embedded:
            self.computed.append(caller)
            await asyncio.wait_for(self.may_answer.wait(), left_s)
            if isinstance(self.fault, Exception):
                raise self.fault
            row = self.fault or Row(b"1234", 1.0, f"cuda/{self.pool.dtypes[0]}/sdpa")
            return Embedded([row] * len(positions))

        return asyncio.ensure_future(self.once.embed("text", keys, compute, call))


async def test_a_vector_is_used_while_workers_that_compute_like_that_live() -> None:
    calls = Calls()
    calls.may_answer.set()
    await calls.embed([b"k"])
    calls.pool.dtypes = ("bfloat16",)
    await calls.embed([b"k"])
    calls.pool.dtypes = ("float32", "bfloat16")
    await calls.embed([b"k"])
    # Nobody is there: what was last seen counts.
    calls.pool.dtypes = ()
    await calls.embed([b"k"])
    assert len(calls.computed) == 2


async def test_others_do_not_wait_in_the_line_of_a_caller_that_floods() -> None:
    calls = Calls()
    flood = calls.embed([b"k", *(number.to_bytes(2) for number in range(64))], "flood")
    few = calls.embed([b"x"], "few")
    await until(lambda: calls.computed == ["flood", "few"])
    others = [calls.embed([b"k"], "flood"), calls.embed([b"k"], "other"), calls.embed([b"x"], "other")]
    await until(lambda: calls.computed == ["flood", "few", "other"])
    calls.may_answer.set()
    await asyncio.gather(flood, few, *others)
    assert calls.computed == ["flood", "few", "other"]


@pytest.mark.parametrize("fault", [BrokerUnavailable("away"), ItemFailure(grpc.StatusCode.INTERNAL, "X", "")])
async def test_a_failure_is_told_to_its_own_call_and_the_others_ask_for_themselves(fault: Any) -> None:
    calls = Calls()
    calls.fault = fault
    first, *others = [calls.embed([b"k"]) for _ in range(3)]
    await until(lambda: calls.computed == ["me"])
    calls.may_answer.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert len(calls.computed) == 3
    assert all(result is fault or result.items == [fault] for result in results)  # type: ignore[union-attr]
    calls.fault = None
    assert isinstance((await calls.embed([b"k"])).items[0], Row)


async def test_what_kills_workers_kills_them_once_for_all_who_wait() -> None:
    calls = Calls()
    calls.fault = ItemFailure(grpc.StatusCode.INTERNAL, "POISON_QUARANTINED", "")
    waiting = [calls.embed([b"k"]) for _ in range(3)]
    await until(lambda: calls.computed == ["me"])
    calls.may_answer.set()
    assert [result.items for result in await asyncio.gather(*waiting)] == [[calls.fault]] * 3
    assert len(calls.computed) == 1


async def test_a_deadline_is_each_callers_own() -> None:
    calls = Calls()
    first, late = calls.embed([b"k"]), calls.embed([b"k"], left_s=0.05)
    with pytest.raises(DeadlineExceeded):
        await late
    calls.may_answer.set()
    assert isinstance((await first).items[0], Row) and len(calls.computed) == 1
