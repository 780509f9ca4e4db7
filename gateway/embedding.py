"""EmbeddingService: texts and images to vectors."""

from typing import Literal

from siglip.v1 import embedding_pb2, embedding_pb2_grpc

from gateway import checks, timing, vectors
from gateway.call import Call
from gateway.embedded import Embedded
from gateway.models import Models
from gateway.stream import StreamWire, embed_stream


class EmbeddingService(embedding_pb2_grpc.EmbeddingServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    async def EmbedTexts(
        self, request: embedding_pb2.EmbedTextsRequest, call: Call
    ) -> embedding_pb2.EmbedTextsResponse:
        parts = self._models.accept(call, request.model, "text")
        checks.embed_texts(request, parts.settings)
        call.items = len(request.texts)
        with parts.admit(request, call, texts=call.items):
            embedded = await parts.embedder.texts(request.texts, call)
        return embedding_pb2.EmbedTextsResponse(
            results=_results(embedded, request.options, "texts"),
            model=parts.model.info(),
            timing=timing.of(call, embedded),
        )

    async def EmbedImages(
        self, request: embedding_pb2.EmbedImagesRequest, call: Call
    ) -> embedding_pb2.EmbedImagesResponse:
        parts = self._models.accept(call, request.model, "vision")
        checks.embed_images(request, parts.settings)
        call.items = len(request.images)
        with parts.admit(request, call, images=call.items):
            embedded = await parts.embedder.images(request.images, call)
        return embedding_pb2.EmbedImagesResponse(
            results=_results(embedded, request.options, "images"),
            model=parts.model.info(),
            timing=timing.of(call, embedded),
        )

    async def EmbedStream(self, wire: StreamWire, call: Call) -> None:
        await embed_stream(self._models, wire, call)


def _results(
    embedded: Embedded, options: embedding_pb2.EmbeddingOptions, list_name: Literal["texts", "images"]
) -> list[embedding_pb2.EmbeddingResult]:
    normalize = options.normalize if options.HasField("normalize") else True
    encoded = iter(vectors.encode(embedded.rows(), options.dtype, normalize))
    failures = dict(embedded.failures())
    return [
        embedding_pb2.EmbeddingResult(error=failures[index].to_proto(index, list_name))
        if index in failures
        else embedding_pb2.EmbeddingResult(embedding=next(encoded))
        for index in range(len(embedded.items))
    ]
