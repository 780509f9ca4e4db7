"""Where each tensor of a checkpoint lies, and reading it: safetensors, or a pickle where allowed.

Files are mapped into memory: a tensor costs memory once it is used, and the parts of a file that
nobody asks for are never read. The mapping is private, so training changes no file. A file may be
removed or replaced while a model uses it, but must not be overwritten in place.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from siglip_model.files import CheckpointError, weight_files

Place = tuple[Path, str]  # a file, and the name of a tensor in it
Shapes = dict[str, list[int]]
Reader = Callable[[str], Tensor]


def places(folder: Path, *, allow_pickle: bool) -> dict[str, Place]:
    """The tensors of a checkpoint by name. Raises CheckpointError for a damaged file."""
    found: dict[str, Place] = {}
    for path in weight_files(folder, allow_pickle=allow_pickle):
        with opened(path) as (shapes, _):
            # Old files hold the buffer 0, 1, 2, ... of positions; it is no weight.
            found |= {name: (path, name) for name in shapes if not name.endswith(".position_ids")}
    return found


@contextmanager
def opened(path: Path, device: torch.device | str = "cpu") -> Iterator[tuple[Shapes, Reader]]:
    """The shape of each tensor of one file, and what reads one of them."""
    if path.suffix != ".safetensors":
        state = _unpickled(path)
        yield (
            {name: list(tensor.shape) for name, tensor in state.items()},
            lambda name: state[name].to(device),
        )
        return
    try:
        file = safe_open(path, framework="pt", device=str(device))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None
    with file:
        names = file.keys()
        yield {name: list(file.get_slice(name).get_shape()) for name in names}, file.get_tensor


def _unpickled(path: Path) -> dict[str, Tensor]:
    """`weights_only` builds tensors and containers, and runs nothing that the file says."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} holds no weights that can be read safely: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no dictionary of tensors")
    return state
