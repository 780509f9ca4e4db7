"""What the models return: fields by name, by `["name"]`, by index, or as a tuple.

Fields that are None are absent from all but attribute access, as in the reference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor
from torch.utils import _pytree as pytree


class ModelOutput(Mapping[str, Any]):
    """Registered with torch's trees, so that `torch.export` and parallel wrappers see its tensors."""

    def __init_subclass__(cls) -> None:
        pytree.register_pytree_node(
            cls,
            lambda output: ([getattr(output, field.name) for field in fields(output)], cls),
            lambda values, kind: kind(*values),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    def __getitem__(self, key: Any) -> Any:
        """A name, or an index or slice into the fields that are there."""
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._there())

    def __contains__(self, key: object) -> bool:
        return key in self._there()

    def __len__(self) -> int:
        return len(self._there())

    def _there(self) -> list[str]:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]  # each subclass is one
        return [name for name in names if getattr(self, name) is not None]

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are there in their order; outputs of towers become tuples too."""
        values = (getattr(self, name) for name in self._there())
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in values)

    def in_form(self, config: Any, return_dict: bool | None) -> Self | tuple[Any, ...]:
        """Itself, or as a tuple where the call, or else the configuration, says `return_dict=False`."""
        return self if either(return_dict, config.use_return_dict) else self.to_tuple()


def wanted(
    config: Any, output_attentions: bool | None, output_hidden_states: bool | None
) -> tuple[bool, bool]:
    """What the call asks for, or else the configuration."""
    return (
        either(output_attentions, config.output_attentions),
        either(output_hidden_states, config.output_hidden_states),
    )


def either(given: bool | None, default: bool) -> bool:
    return default if given is None else given


@dataclass(eq=False)
class TowerOutput(ModelOutput):
    last_hidden_state: Tensor
    """[B, S, D], after the last layer norm."""
    pooler_output: Tensor | None = None
    """[B, projection], not normalised; None without a pooling head."""
    hidden_states: tuple[Tensor, ...] | None = None
    """Layers + 1 of [B, S, D]: the embeddings, then each layer's result, before the last layer norm."""
    attentions: tuple[Tensor, ...] | None = None
    """For each layer [B, heads, S, S]."""


@dataclass(eq=False)
class SiglipOutput(ModelOutput):
    loss: Tensor | None = None
    """Of the batch, when asked for."""
    logits_per_image: Tensor | None = None
    """[images, texts], float32."""
    logits_per_text: Tensor | None = None
    """[texts, images], float32."""
    text_embeds: Tensor | None = None
    """Unit vectors [texts, projection], float32."""
    image_embeds: Tensor | None = None
    """Unit vectors [images, projection], float32."""
    text_model_output: TowerOutput | None = None
    vision_model_output: TowerOutput | None = None


@dataclass(eq=False)
class ImageClassifierOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    """[B, num_labels]."""
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
