"""GetModel and Tokenize."""

import pytest
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_get_model_describes_checkpoint_limits_and_workers(service: Served) -> None:
    async def both_live() -> bool:
        reply = await service.model.GetModel(model_pb2.GetModelRequest(model="tiny"))
        return reply.text_tower.live_workers == reply.vision_tower.live_workers == 1

    await until(both_live)
    reply = await service.model.GetModel(model_pb2.GetModelRequest())
    assert (reply.name, reply.fingerprint) == ("tiny", service.served.fingerprint)
    assert (reply.embedding_dim, reply.image_size, reply.text_length) == (32, 32, 64)
    assert reply.logit_scale == pytest.approx(109.947, rel=1e-5)
    assert reply.logit_bias == pytest.approx(-12.9)
    assert (reply.dtype, reply.attention) == ("float32", "sdpa")
    assert list(reply.templates) == ["This is a photo of {}."]
    assert list(reply.text_tower.devices) == ["cpu"]
    unset = [field.name for field in reply.limits.DESCRIPTOR.fields if not getattr(reply.limits, field.name)]
    assert unset == []


async def test_an_unknown_model_is_not_found_by_any_method(service: Served) -> None:
    for call in (
        service.model.GetModel(model_pb2.GetModelRequest(model="other")),
        service.model.Tokenize(model_pb2.TokenizeRequest(model="other", texts=["a"])),
        service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(model="other", texts=["a"])),
        service.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(model="other", images=[b"a"])),
        service.zero_shot.Classify(zero_shot_pb2.ClassifyRequest(model="other")),
        service.zero_shot.Score(zero_shot_pb2.ScoreRequest(model="other")),
    ):
        error = await refused(call)
        assert (error.code.name, error.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")
        assert "'other'" in error.message and "'tiny'" in error.message


async def test_tokenize_pads_and_names_pieces(service: Served) -> None:
    reply = await service.model.Tokenize(model_pb2.TokenizeRequest(texts=["a red cat", ""]))
    first, empty = reply.results
    assert len(first.ids) == len(first.pieces) == 64
    assert first.pieces[0].startswith("▁")
    assert first.pieces[-1] == "</s>"
    assert list(empty.ids) == [1] * 64
    assert not first.truncated and not empty.truncated


async def test_a_text_of_5000_words_is_cut_and_flagged(service: Served) -> None:
    long = "a red cat " * 1667
    reply = await service.model.Tokenize(model_pb2.TokenizeRequest(texts=["a cat", long, "a dog"]))
    assert [tokens.truncated for tokens in reply.results] == [False, True, False]
    assert len(reply.results[1].ids) == 64
    assert reply.results[1].pieces[-1] == "</s>" != reply.results[1].pieces[-2]


async def test_a_text_above_the_limit_is_refused_by_tokenize(service: Served) -> None:
    error = await refused(service.model.Tokenize(model_pb2.TokenizeRequest(texts=["a", "x" * 65_537])))
    assert (error.code.name, error.reason, error.fields) == (
        "INVALID_ARGUMENT",
        "LIMIT_EXCEEDED",
        ["texts[1]"],
    )


async def test_a_text_only_deployment_says_so(start: Start, workers: dict[str, FakeWorker]) -> None:
    async with start(towers="text") as served:
        reply = await served.model.GetModel(model_pb2.GetModelRequest())
        assert (reply.text_tower.served, reply.vision_tower.served) == (True, False)
        assert (await served.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=["a"]))).results
        for call in (
            served.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(images=[picture(1)])),
            served.zero_shot.Classify(zero_shot_pb2.ClassifyRequest(images=[picture(1)], labels=["a"])),
            served.zero_shot.Score(zero_shot_pb2.ScoreRequest(images=[picture(1)], texts=["a"])),
        ):
            error = await refused(call)
            assert (error.code.name, error.reason) == ("UNIMPLEMENTED", "TOWER_NOT_SERVED")
            assert "vision" in error.message
