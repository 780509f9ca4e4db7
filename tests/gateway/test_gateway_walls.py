"""Which limit a refused call has met."""

import asyncio

import grpc
import pytest
from siglip.v1 import embedding_pb2, model_pb2, model_pb2_grpc

from gateway.access import Caller
from gateway.admission import Admission
from gateway.errors import Overloaded
from gateway.metrics import WALLS
from tests.gateway.conftest import Start
from tests.gateway.rig import FakeWorker, refused
from tests.gateway.test_gateway_overload import waiting_in_queue
from tests.support.pages import scraped, total

pytestmark = pytest.mark.asyncio(loop_scope="session")

WALL = "siglip_refused_at_wall_total"


async def test_refusals_are_counted_by_their_wall(start: Start, text_worker: FakeWorker) -> None:
    def request(texts: int) -> embedding_pb2.EmbedTextsRequest:
        return embedding_pb2.EmbedTextsRequest(texts=[f"text {number}" for number in range(texts)])

    async with start(queue_max_entries=1, max_in_flight_rows=10, metrics_listen="127.0.0.1:0") as served:
        text_worker.pause()
        first = asyncio.ensure_future(served.embedding.EmbedTexts(request(1)))
        await waiting_in_queue(served, "text", 1)
        reasons = [(await refused(served.embedding.EmbedTexts(request(n)))).reason for n in (1, 10, 10)]
        assert reasons == ["QUEUE_FULL", "OVERLOADED", "OVERLOADED"]
        text_worker.resume()
        await first
        assert served.gateway.page
        page = await asyncio.to_thread(scraped, served.gateway.page.port)
    assert total(page, WALL, wall="queue_entries") == 1
    assert total(page, WALL, wall="in_flight_rows") == 2
    assert total(page, WALL) == total(page, "siglip_calls_total", code="RESOURCE_EXHAUSTED") == 3
    # All walls are there from the start.
    assert total(page, WALL, wall="predicted_wait") == 0 and len(page[WALL]) == len(WALLS)


@pytest.mark.parametrize(
    ("held", "asked", "bound", "wall"),
    [
        ((10, 10), (91, 1), None, "in_flight_rows"),
        ((10, 10), (1, 91), None, "in_flight_bytes"),
        ((10, 85), (1, 10), None, "fair_share"),
        ((10, 10), (2, 1), 11, "token_bound"),
    ],
)
async def test_admission_names_its_wall(
    held: tuple[int, int], asked: tuple[int, int], bound: int | None, wall: str
) -> None:
    admission, caller = Admission(max_rows=100, max_bytes=100), Caller("a", bound)
    with (
        admission.admit(*held, caller),
        pytest.raises(Overloaded) as refused,
        admission.admit(*asked, caller),
    ):
        raise AssertionError("admitted")
    assert refused.value.wall == wall


async def test_hundreds_of_calls_of_one_connection_are_answered(start: Start) -> None:
    """Calls that have just ended count, so a limit near what is in flight refuses some."""
    async with start() as served:
        where = f"127.0.0.1:{served.gateway.port}"
        alone = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(where, options=alone) as channel:
            model = model_pb2_grpc.ModelServiceStub(channel)
            calls = [model.Tokenize(model_pb2.TokenizeRequest(texts=["a"])) for _ in range(600)]
            found = await asyncio.gather(*calls, return_exceptions=True)
    assert not [each for each in found if isinstance(each, grpc.RpcError)]
