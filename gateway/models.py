"""The models that one gateway serves: who is meant by a name."""

from collections.abc import Sequence

from gateway.call import Call
from gateway.errors import UnknownModel
from gateway.parts import Parts
from siglip_settings import Tower


class Models:
    """The parts of each; the first is what calls without a name mean."""

    def __init__(self, each: Sequence[Parts]) -> None:
        self.each = tuple(each)
        self._by_name = {parts.model.name: parts for parts in each}

    @property
    def first(self) -> Parts:
        return self.each[0]

    @property
    def names(self) -> list[str]:
        """As clients ask for them."""
        return list(self._by_name)

    def accept(self, call: Call, name: str, *towers: Tower) -> Parts:
        """Those of the model that is meant, which the call is told.

        Raises UnknownModel, or TowerNotServed for a tower that this deployment leaves out.
        """
        parts = self._by_name.get(name) if name else self.first
        if parts is None:
            raise UnknownModel(name, self.names)
        call.model = parts.model.name
        parts.require(*towers)
        return parts
