"""Label sets: created once, used by handle at every gateway of the queue, forgotten when nobody uses them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from siglip.broker.v1 import job_pb2
from siglip.v1 import zero_shot_pb2

from broker import EmbeddedServer
from broker.keys import Keys, model_tag
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused, until
from tests.support.valkey import looking

pytestmark = pytest.mark.asyncio(loop_scope="session")

LABELS = ["a red square", "a blue circle"]
TEMPLATES = ["a {}", "the {}"]
IMAGES = [picture(1), picture(2)]


@dataclass
class Two:
    """Two gateways of one queue, which remember nothing but label sets."""

    one: Served
    other: Served

    def keys(self, handle: str) -> str:
        model = self.one.served
        return Keys(model_tag(model.name, model.fingerprint)).label_set(handle)

    def forget(self) -> None:
        for served in (self.one, self.other):
            known = served.gateway.parts.label_sets._known
            for key in list(known._entries):
                known.drop(key)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two(start: Start, workers: dict[str, FakeWorker]) -> AsyncIterator[Two]:
    async with start() as one, start() as other:
        for served in (one, other):
            await until(lambda served=served: all(served.gateway.parts.broker.live_workers().values()))
        yield Two(one, other)


def create(
    labels: list[str] = LABELS, templates: list[str] = TEMPLATES
) -> zero_shot_pb2.CreateLabelSetRequest:
    return zero_shot_pb2.CreateLabelSetRequest(labels=labels, templates=templates)


def by_handle(handle: str, **more: object) -> zero_shot_pb2.ClassifyRequest:
    return zero_shot_pb2.ClassifyRequest(images=IMAGES, label_set=handle, **more)  # type: ignore[arg-type]


async def test_any_gateway_classifies_by_handle_as_by_labels(
    two: Two, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    whole = await two.one.zero_shot.Classify(
        zero_shot_pb2.ClassifyRequest(images=IMAGES, labels=LABELS, templates=TEMPLATES)
    )
    made = await two.one.zero_shot.CreateLabelSet(create())
    assert (made.label_count, made.expires_in_s, len(made.label_set)) == (2, 3600, 64)
    assert made.model.fingerprint == two.one.served.fingerprint and made.timing.compute_us
    assert (await two.other.zero_shot.CreateLabelSet(create())).label_set == made.label_set
    text_worker.rows.clear()
    for served in (two.one, two.other):
        reply = await served.zero_shot.Classify(by_handle(made.label_set))
        assert reply.results == whole.results
    two.forget()
    assert (await two.other.zero_shot.Classify(by_handle(made.label_set))).results == whole.results
    assert not text_worker.rows


async def test_other_labels_or_templates_have_another_handle(two: Two) -> None:
    asked = [
        create(),
        create(LABELS[::-1]),
        create([*LABELS, "a {}"], ["the {}"]),
        create(templates=TEMPLATES[::-1]),
        create(templates=[]),
        create(["".join(LABELS)]),
    ]
    handles = [(await two.one.zero_shot.CreateLabelSet(each)).label_set for each in asked]
    assert len(set(handles)) == len(asked)


async def test_what_is_not_known_is_named(two: Two) -> None:
    error = await refused(two.one.zero_shot.Classify(by_handle("0" * 64)))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "LABEL_SET_NOT_FOUND")
    assert "0" * 64 in error.message and "create it again" in error.message
    for handle in ("0" * 63, "G" * 64, "../" + "0" * 61, "0" * 64 + "\n"):
        error = await refused(two.one.zero_shot.Classify(by_handle(handle)))
        assert (error.reason, error.fields) == ("LABEL_SET_INVALID", ["label_set"])
    for both in ({"labels": LABELS}, {"templates": TEMPLATES}):
        error = await refused(two.one.zero_shot.Classify(by_handle("0" * 64, **both)))
        assert (error.reason, error.fields) == ("FIELDS_EXCLUDE", ["label_set"])


async def test_the_limits_of_classify_hold(start: Start, two: Two) -> None:
    for request, field in (
        (create([]), "labels"),
        (create(["a"] * 1025), "labels"),
        (create(templates=["no place"]), "templates[0]"),
        (create(["a"] * 1000, ["{}"] * 5), "labels x templates"),
    ):
        assert (await refused(two.one.zero_shot.CreateLabelSet(request))).fields == [field]
    many = (await two.one.zero_shot.CreateLabelSet(create(["x" * 3000] * 1000, []))).label_set
    error = await refused(two.one.zero_shot.Classify(by_handle(many)))
    assert "max_reply_bytes" in error.message and error.fields == ["images x labels"]
    assert (await two.one.zero_shot.Classify(by_handle(many, top_k=1))).results
    async with start(label_sets_bytes=2000) as small:
        error = await refused(small.zero_shot.CreateLabelSet(create(["a"] * 20)))
        assert error.fields == ["labels"] and "at most 2000 allowed (label_sets_bytes)" in error.message


async def test_use_renews_it_and_without_use_it_is_forgotten(start: Start, valkey: EmbeddedServer) -> None:
    async with start(label_set_ttl_s=1.0) as served:
        two = Two(served, served)
        handle = (await served.zero_shot.CreateLabelSet(create(["brief"]))).label_set
        with looking(valkey.url) as connection:
            ends_ms = connection.pexpiretime(two.keys(handle))
            await until(lambda: connection.pttl(two.keys(handle)) < 900)
            await served.zero_shot.Classify(by_handle(handle))
            assert connection.pexpiretime(two.keys(handle)) >= ends_ms + 100
            await until(lambda: not connection.exists(two.keys(handle)))
        error = await refused(served.zero_shot.Classify(by_handle(handle)))
        assert error.reason == "LABEL_SET_NOT_FOUND"


async def test_those_that_were_used_longest_ago_make_room(start: Start, valkey: EmbeddedServer) -> None:
    async with start(label_sets_bytes=5000) as served:
        two = Two(served, served)
        made = [
            (await served.zero_shot.CreateLabelSet(create([f"{number}"] * 16))).label_set
            for number in range(3)
        ]
        with looking(valkey.url) as connection:
            assert [connection.exists(two.keys(handle)) for handle in made] == [0, 1, 1]


async def test_a_set_that_redis_lost_comes_back_with_its_next_use(two: Two, valkey: EmbeddedServer) -> None:
    handle = (await two.one.zero_shot.CreateLabelSet(create(["lost"]))).label_set
    label_sets = two.one.gateway.parts.label_sets
    with looking(valkey.url) as connection:
        connection.delete(two.keys(handle))
        known = label_sets._known.get(bytes.fromhex(handle))
        assert known
        await label_sets._renew(known)
        assert connection.exists(two.keys(handle))


async def test_what_somebody_else_wrote_is_no_label_set(two: Two, valkey: EmbeddedServer) -> None:
    handle = (await two.one.zero_shot.CreateLabelSet(create())).label_set
    key = two.keys(handle)
    with looking(valkey.url) as connection:
        good = connection.get(key)
        assert isinstance(good, bytes)

        def changed(vectors: bytes, labels: list[str] = LABELS) -> bytes:
            stored = job_pb2.StoredLabelSet.FromString(good)
            stored.vectors, stored.labels[:] = vectors, labels
            return stored.SerializeToString()

        vectors = job_pb2.StoredLabelSet.FromString(good).vectors
        nan = b"\0\0\xc0\x7f" + vectors[4:]
        for value in (
            b"",
            b"\xff" * 20,
            changed(vectors, ["another", "two"]),
            changed(vectors[:-4]),
            changed(nan),
            changed(bytes(len(vectors))),
        ):
            two.forget()
            connection.set(key, value)
            error = await refused(two.one.zero_shot.Classify(by_handle(handle)))
            assert error.reason == "LABEL_SET_NOT_FOUND", value
        connection.set(key, good)
        assert (await two.one.zero_shot.Classify(by_handle(handle))).results


async def test_vectors_of_other_numerics_are_computed_anew(
    two: Two, valkey: EmbeddedServer, text_worker: FakeWorker
) -> None:
    handle = (await two.one.zero_shot.CreateLabelSet(create())).label_set
    right = await two.one.zero_shot.Classify(by_handle(handle))
    with looking(valkey.url) as connection:
        stored = job_pb2.StoredLabelSet.FromString(connection.get(two.keys(handle)))
        stored.numerics[:] = ["cuda/bfloat16/sdpa"]
        stored.vectors = stored.vectors[len(stored.vectors) // 2 :] * 2
        connection.set(two.keys(handle), stored.SerializeToString())
        two.forget()
        text_worker.rows.clear()
        assert (await two.one.zero_shot.Classify(by_handle(handle))).results == right.results
        assert len(text_worker.rows) == 4
        stored = job_pb2.StoredLabelSet.FromString(connection.get(two.keys(handle)))
        assert stored.numerics == ["cpu/float32/sdpa"]


async def test_nothing_is_computed_for_images_when_the_set_is_unknown(
    two: Two, vision_worker: FakeWorker
) -> None:
    await refused(two.one.zero_shot.Classify(by_handle("1" * 64)))
    assert not vision_worker.rows and two.one.gateway.parts.admission.rows == 0
