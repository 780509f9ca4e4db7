"""What calls return: plain frozen dataclasses with numpy inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from siglip_client.errors import ItemError

OnError = Literal["raise", "return"]
Activation = Literal["sigmoid", "softmax"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answered. Never compare vectors of different fingerprints."""

    name: str
    revision: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went inside the service, in microseconds.

    Each figure is the largest over the parts of a call (and over the calls that
    a long list took), so they need not add up.
    """

    decode_us: int = 0
    queue_us: int = 0
    compute_us: int = 0
    score_us: int = 0
    total_us: int = 0

    def __str__(self) -> str:
        stages = (
            ("decode", self.decode_us),
            ("queue", self.queue_us),
            ("compute", self.compute_us),
            ("score", self.score_us),
            ("total", self.total_us),
        )
        return ", ".join(f"{name} {us / 1000:.1f} ms" for name, us in stages)


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """`vectors`: float32 [n, dim], NaN where an item failed. np.asarray() gives them."""

    vectors: Floats
    errors: tuple[ItemError, ...]
    model: ModelInfo
    timing: Timing

    def __len__(self) -> int:
        return len(self.vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if dtype is None or np.dtype(dtype) == self.vectors.dtype:
            return self.vectors.copy() if copy else self.vectors
        return self.vectors.astype(dtype)


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of one image. `index` is the label's position in the given list."""

    label: str
    index: int
    probability: float
    logit: float
    cosine: float


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """The labels of one image, highest probability first; none if it failed.

    `index` is the image's position in the given list. With top_k or threshold
    there may be fewer labels than were given.
    """

    index: int
    labels: tuple[LabelScore, ...]
    error: ItemError | None = None

    def __getitem__(self, position: int) -> LabelScore:
        return self.labels[position]

    def __iter__(self) -> Iterator[LabelScore]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Classification(Sequence[ImageLabels]):
    """One ImageLabels for each image, in the order given.

    probability = sigmoid(logit_scale * cosine + logit_bias), or its softmax.
    """

    images: tuple[ImageLabels, ...]
    errors: tuple[ItemError, ...]
    logit_scale: float
    logit_bias: float
    model: ModelInfo
    timing: Timing

    @overload
    def __getitem__(self, position: int) -> ImageLabels: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[ImageLabels, ...]: ...
    def __getitem__(self, position: int | slice) -> ImageLabels | tuple[ImageLabels, ...]:
        return self.images[position]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[ImageLabels]:
        return iter(self.images)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels whose vectors the service keeps; give it to `classify` in place of labels.

    The service forgets it when it has not been used for `expires_in_s` seconds; clients then create it again.
    """

    handle: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    expires_in_s: int
    model: ModelInfo

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Every image against every text, float32 [images, texts].

    Rows of failed images and columns of failed texts are NaN; the `field` of an
    error tells which of the two it is.
    """

    logits: Floats
    probabilities: Floats
    errors: tuple[ItemError, ...]
    logit_scale: float
    logit_bias: float
    model: ModelInfo
    timing: Timing

    def __len__(self) -> int:
        return len(self.logits)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """`ids`: int32 [n, text_length]; `pieces`: the same as text; `truncated`: bool [n]."""

    ids: npt.NDArray[np.int32]
    pieces: tuple[tuple[str, ...], ...]
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may hold. Longer lists are sent in several calls."""

    max_texts: int
    max_images: int
    max_labels: int
    max_templates: int
    max_prompts: int
    max_scores: int
    max_text_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    max_message_bytes: int
    max_deadline_ms: int
    max_reply_bytes: int


@dataclass(frozen=True, slots=True)
class TowerStatus:
    """The live workers of one tower, with the device of each."""

    served: bool
    live_workers: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """The served model; `logit_scale` is the multiplier of the cosine itself.

    `image_resample` is Pillow's number of the filter that resizes images; None from
    a gateway that does not say it. `served_models` are the names of all models there.
    """

    name: str
    revision: str
    fingerprint: str
    embedding_dim: int
    image_size: int
    text_length: int
    logit_scale: float
    logit_bias: float
    dtype: str
    attention: str
    templates: tuple[str, ...]
    limits: Limits
    text_tower: TowerStatus
    vision_tower: TowerStatus
    image_resample: int | None = None
    served_models: tuple[str, ...] = ()

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(self.name, self.revision, self.fingerprint)
