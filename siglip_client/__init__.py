"""Client of the SigLIP service: images and texts in, numpy out.

    from siglip_client import Client

    with Client("127.0.0.1:50051") as client:
        for image in client.classify(["cat.jpg"], ["a cat", "a dog"]):
            print(image[0].label, image[0].probability)

`AsyncClient` has the same calls for asyncio.
"""

from siglip_client.aio import AsyncClient
from siglip_client.client import Client
from siglip_client.errors import (
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    InvalidRequest,
    ItemError,
    ItemErrors,
    MessageTooLarge,
    ModelChanged,
    NotFound,
    Overloaded,
    SiglipError,
    Unauthenticated,
    Unavailable,
)
from siglip_client.images import ImageLike
from siglip_client.results import (
    Classification,
    Embeddings,
    ImageLabels,
    LabelScore,
    LabelSet,
    Limits,
    ModelDescription,
    ModelInfo,
    Scores,
    Timing,
    Tokens,
    TowerStatus,
)
from siglip_client.stream_items import (
    ImageItem,
    PixelsItem,
    StreamItem,
    StreamResult,
    TextItem,
    TokensItem,
)

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "Embeddings",
    "FieldViolation",
    "ImageItem",
    "ImageLabels",
    "ImageLike",
    "InternalError",
    "InvalidRequest",
    "ItemError",
    "ItemErrors",
    "LabelScore",
    "LabelSet",
    "Limits",
    "MessageTooLarge",
    "ModelChanged",
    "ModelDescription",
    "ModelInfo",
    "NotFound",
    "Overloaded",
    "PixelsItem",
    "Scores",
    "SiglipError",
    "StreamItem",
    "StreamResult",
    "TextItem",
    "Timing",
    "Tokens",
    "TokensItem",
    "TowerStatus",
    "Unauthenticated",
    "Unavailable",
]
