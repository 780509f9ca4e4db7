"""ModelService: what is served, and how texts become token ids."""

from collections.abc import Iterable, Sequence

from siglip.v1 import model_pb2, model_pb2_grpc

from broker import WorkerInfo
from gateway import checks
from gateway.access import Caller
from gateway.call import Call
from gateway.models import Models
from gateway.parts import Parts
from siglip_model.scoring import DEFAULT_TEMPLATE
from siglip_settings import GatewaySettings, Tower


class ModelService(model_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    async def GetModel(self, request: model_pb2.GetModelRequest, call: Call) -> model_pb2.GetModelResponse:
        parts = self._models.accept(call, request.model)
        model = parts.model
        if parts.broker.outage is not None:
            raise parts.broker.outage
        text, vision = await _workers(parts, "text"), await _workers(parts, "vision")
        return model_pb2.GetModelResponse(
            name=model.name,
            revision=model.revision,
            fingerprint=model.fingerprint,
            embedding_dim=model.embedding_dim,
            image_size=model.image_size,
            image_resample=model.resample,
            text_length=model.text_length,
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
            dtype=_distinct(worker.dtype for worker in (*text, *vision)),
            attention=_distinct(worker.attention for worker in (*text, *vision)),
            templates=[DEFAULT_TEMPLATE],
            limits=_limits(parts.settings, call.caller),
            text_tower=_status(parts, "text", text),
            vision_tower=_status(parts, "vision", vision),
            served_models=self._models.names,
        )

    async def Tokenize(self, request: model_pb2.TokenizeRequest, call: Call) -> model_pb2.TokenizeResponse:
        parts = self._models.accept(call, request.model)
        checks.tokenize(request, parts.settings)
        call.items = len(request.texts)
        with parts.admit(request, call, texts=call.items), call.stage("text", "decode"):
            ids, truncated = await parts.tokens.encode(request.texts)
        return model_pb2.TokenizeResponse(
            results=[
                model_pb2.Tokens(ids=row, pieces=parts.tokens.pieces(row), truncated=flag)
                for row, flag in zip(ids.tolist(), truncated.tolist(), strict=True)
            ]
        )


async def _workers(parts: Parts, tower: Tower) -> Sequence[WorkerInfo]:
    return await parts.broker.workers(tower) if tower in parts.settings.served_towers else ()


def _status(parts: Parts, tower: Tower, workers: Sequence[WorkerInfo]) -> model_pb2.TowerStatus:
    return model_pb2.TowerStatus(
        served=tower in parts.settings.served_towers,
        live_workers=len(workers),
        devices=[worker.device for worker in workers],
    )


def _distinct(names: Iterable[str]) -> str:
    return ",".join(sorted(set(names)))


def _limits(settings: GatewaySettings, caller: Caller) -> model_pb2.Limits:
    """As they are for this caller: clients make calls of what fits."""
    most = caller.max_in_flight_rows or max(settings.max_texts, settings.max_images)
    return model_pb2.Limits(
        max_texts=min(settings.max_texts, most),
        max_images=min(settings.max_images, most),
        max_labels=settings.max_labels,
        max_templates=settings.max_templates,
        max_prompts=settings.max_prompts,
        max_scores=settings.max_scores,
        max_text_bytes=settings.max_text_bytes,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_message_bytes=settings.max_message_bytes,
        max_deadline_ms=round(settings.max_deadline_s * 1000),
        max_reply_bytes=settings.max_reply_bytes,
    )
