"""The dictionary that tokenizer and image processor return, and its conversion to arrays."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

TensorKind = Literal["np", "pt"]


class Batch(dict[str, Any]):
    """A dict whose values are attributes too: `batch["input_ids"] is batch.input_ids`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move tensors to a device; a dtype is applied to floating point tensors only."""
        for name, value in self.items():
            if hasattr(value, "to"):
                self[name] = value.to(*_for_integers(value, args), **_for_integers(value, kwargs))
        return self


def _for_integers(value: Any, given: Any) -> Any:
    """Ids must stay integers when a batch is moved to half precision."""
    if value.is_floating_point():
        return given
    if isinstance(given, Mapping):
        return {key: item for key, item in given.items() if key != "dtype"}
    return tuple(item for item in given if type(item).__name__ != "dtype")


def to_tensors(
    values: Mapping[str, Any], kind: TensorKind | None, dtype: npt.DTypeLike | None = None
) -> Batch:
    """`values` with each list of rows turned into a numpy array ("np") or a torch tensor ("pt")."""
    if kind is None:
        return Batch(values)
    if kind not in ("np", "pt"):
        raise ValueError(f"return_tensors must be 'np', 'pt' or None, not {kind!r}")
    return Batch({name: _to_tensor(name, value, kind, dtype) for name, value in values.items()})


def _to_tensor(name: str, rows: Any, kind: TensorKind, dtype: npt.DTypeLike | None) -> Any:
    try:
        array = np.array(rows, dtype=dtype)
    except ValueError:
        raise ValueError(
            f"{name} has rows of different lengths: use padding=True (and truncation=True) for one array"
        ) from None
    if kind == "np":
        return array
    import torch

    return torch.from_numpy(array)
