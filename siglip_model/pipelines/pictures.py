"""What the pipelines share: pictures come one by one, in lists or as a stream, and go in batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from torch.utils.data import Dataset

from siglip_model.batch import Batch
from siglip_model.image_loading import load_image

Score = dict[str, Any]  # {"score": float, "label": the label}
Options = TypeVar("Options")


def answers(image: Any, batch_size: int, score: Callable[[list[Any]], list[list[Score]]]) -> Any:
    """One picture gives its labels, a list a list of them, an iterator or a Dataset an iterator."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if isinstance(image, Dataset):
        image = map(image.__getitem__, range(len(image)))  # type: ignore[arg-type]
    if isinstance(image, list | tuple):
        return list(_in_batches(image, batch_size, score))
    if isinstance(image, Iterator):
        return _in_batches(image, batch_size, score)
    return score([image])[0]


def _in_batches(
    images: Iterable[Any], size: int, score: Callable[[list[Any]], list[list[Score]]]
) -> Iterator[list[Score]]:
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield from score(batch)


def pixels(
    model: Any, image_processor: Any, images: list[Any], timeout: float | None, allow_urls: bool
) -> Batch:
    """The model's input, on its device and in its dtype."""
    pictures = [load_image(image, timeout, allow_urls=allow_urls) for image in images]
    batch: Batch = image_processor(images=pictures, return_tensors="pt")
    return batch.to(model.device, model.dtype)


def given_options(defaults: Options, **given: Any) -> Options:
    """None means: as it was said when the pipeline was made."""
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})  # type: ignore[type-var]
