"""What the services share: the model served, the settings, and the way to the workers."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from google.protobuf.message import Message

from broker import GatewayEnd
from gateway.admission import Admission
from gateway.call import Call
from gateway.embed import Embedder
from gateway.errors import TowerNotServed
from gateway.label_sets import LabelSets
from gateway.metrics import Metrics
from gateway.served import ServedModel
from gateway.streams import Streams
from gateway.tokens import TokenPool
from siglip_settings import GatewaySettings, Tower


@dataclass(frozen=True, slots=True)
class Parts:
    settings: GatewaySettings
    model: ServedModel
    broker: GatewayEnd
    tokens: TokenPool
    embedder: Embedder
    admission: Admission
    label_sets: LabelSets
    streams: Streams
    metrics: Metrics

    def accept(self, model: str, *towers: Tower) -> None:
        """Raises UnknownModel, or TowerNotServed for a tower that this deployment leaves out."""
        self.model.check_name(model)
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
