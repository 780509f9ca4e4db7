"""Fetches a model's files from the Hugging Face hub, and says in one line why it could not."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from siglip_model.files import CheckpointError, CheckpointFiles


class Silent(tqdm):  # type: ignore[type-arg]
    """A progress bar that draws nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"disable": True}))


def download(
    model: str,
    *,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | None,
    local_files_only: bool,
    only: tuple[str, ...],
    progress: type | None,
) -> CheckpointFiles:
    nowhere = f"{model} is not a folder here"
    try:
        folder = snapshot_download(
            model,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            allow_patterns=list(only),
            tqdm_class=progress or Silent,
        )
    except HFValidationError:
        raise CheckpointError(f"{model!r} is neither a folder nor a hub id like google/siglip-base") from None
    except GatedRepoError:
        raise CheckpointError(f"{model} is gated: accept its terms on the hub and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise CheckpointError(f"{model} has no revision {revision} on the hub") from None
    except RepositoryNotFoundError:
        raise CheckpointError(f"{nowhere}, nor a model on the hub that this HF_TOKEN may read") from None
    except LocalEntryNotFoundError as error:
        why = _one_line(error.__cause__ or error)
        raise CheckpointError(
            f"{nowhere}, not in the local cache, and the hub was not reached: {why}"
        ) from None
    except Exception as error:  # the transport's own, which differ between releases of huggingface_hub
        raise CheckpointError(f"{model} could not be fetched: {_one_line(error)}") from error
    return CheckpointFiles(Path(folder), Path(folder).name)


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
