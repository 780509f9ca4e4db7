"""A gRPC server that answers every item with the same vector: calls and streams of the contract, and no more.

python -m benchmarks.service.echo_server, with a GetModelResponse as its standard input; prints its port.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
from siglip.v1 import embedding_pb2, embedding_pb2_grpc, model_pb2, model_pb2_grpc, types_pb2

from siglip_settings import GatewaySettings

Embedding = embedding_pb2.EmbeddingResult


class Echo(embedding_pb2_grpc.EmbeddingServiceServicer, model_pb2_grpc.ModelServiceServicer):
    def __init__(self, model: model_pb2.GetModelResponse) -> None:
        self._model = model
        self._info = types_pb2.ModelInfo(
            name=model.name, revision=model.revision, fingerprint=model.fingerprint
        )
        dim = model.embedding_dim
        self._vector = types_pb2.Vector(data=bytes(4 * dim), dtype=types_pb2.DTYPE_F32, dim=dim, scale=1.0)

    async def GetModel(self, request: model_pb2.GetModelRequest, context: object) -> object:
        return self._model

    async def EmbedTexts(self, request: embedding_pb2.EmbedTextsRequest, context: object) -> object:
        return embedding_pb2.EmbedTextsResponse(results=self._results(len(request.texts)), model=self._info)

    async def EmbedImages(self, request: embedding_pb2.EmbedImagesRequest, context: object) -> object:
        return embedding_pb2.EmbedImagesResponse(results=self._results(len(request.images)), model=self._info)

    async def EmbedStream(
        self, requests: AsyncIterator[embedding_pb2.EmbedStreamRequest], context: object
    ) -> AsyncIterator[embedding_pb2.EmbedStreamResponse]:
        yield embedding_pb2.EmbedStreamResponse(opened=self._opened())
        async for request in requests:
            yield embedding_pb2.EmbedStreamResponse(
                results=[
                    embedding_pb2.EmbedStreamResult(id=item.id, embedding=self._vector)
                    for item in request.items
                ]
            )

    def _results(self, count: int) -> list[Embedding]:
        return [Embedding(embedding=self._vector) for _ in range(count)]

    def _opened(self) -> embedding_pb2.StreamOpened:
        settings = GatewaySettings(model="")
        return embedding_pb2.StreamOpened(
            model=self._info,
            max_unanswered_items=settings.stream_max_items,
            max_unanswered_bytes=settings.stream_max_bytes,
            heartbeat_interval_ms=60_000,
            max_message_bytes=settings.max_message_bytes,
            max_text_bytes=settings.max_text_bytes,
            max_image_bytes=settings.max_image_bytes,
            text_length=self._model.text_length,
            image_size=self._model.image_size,
        )


async def serve(model: model_pb2.GetModelResponse) -> None:
    size = GatewaySettings(model="").max_message_bytes
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", size), ("grpc.so_reuseport", 0)])
    echo = Echo(model)
    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(echo, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(echo, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(model_pb2.GetModelResponse.FromString(sys.stdin.buffer.read())))
