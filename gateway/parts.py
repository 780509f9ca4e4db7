"""What the services need of one served model: its files, the way to its workers, what all models share."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from google.protobuf.message import Message

from broker import GatewayEnd
from gateway.admission import Admission
from gateway.call import Call
from gateway.canary import Canary
from gateway.embed import Embedder
from gateway.errors import TowerNotServed
from gateway.label_sets import LabelSets
from gateway.metrics import ModelMetrics
from gateway.served import ServedModel
from gateway.streams import Streams
from gateway.tokens import TokenPool
from siglip_settings import GatewaySettings, Tower


@dataclass(frozen=True, slots=True)
class Parts:
    """`settings`, `admission` and `streams` are those of the gateway, the rest is this model's own."""

    settings: GatewaySettings
    model: ServedModel
    broker: GatewayEnd
    tokens: TokenPool
    embedder: Embedder
    admission: Admission
    label_sets: LabelSets
    streams: Streams
    metrics: ModelMetrics
    canaries: tuple[Canary, ...] = ()

    def require(self, *towers: Tower) -> None:
        """Raises TowerNotServed for a tower that this deployment leaves out."""
        for tower in towers:
            if tower not in self.settings.served_towers:
                raise TowerNotServed(tower, self.settings.towers)

    def row_bytes(self, tower: Tower) -> int:
        """Of one text or image as its tower takes it."""
        return self.model.text_length * 4 if tower == "text" else 3 * self.model.image_size**2

    def admit(
        self, request: Message, call: Call, texts: int = 0, images: int = 0
    ) -> AbstractContextManager[None]:
        """Room for the request's bytes and the rows that it becomes. Raises Overloaded, InvalidRequest."""
        row_bytes = texts * self.row_bytes("text") + images * self.row_bytes("vision")
        return self.admission.admit(texts + images, request.ByteSize() + row_bytes, call.caller)
