"""Which of some labels fit a picture: each label on its own, so scores need not add up to 1."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from siglip_model.pipelines.pictures import Score, answers, given_options, pixels

DEFAULT_TEMPLATE = "This is a photo of {}."
TEXTS_PER_PASS = 64  # bounds the memory that many labels need


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions:
    candidate_labels: str | Sequence[Any] | None = None
    hypothesis_template: str = DEFAULT_TEMPLATE
    timeout: float | None = None
    tokenizer_kwargs: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 1
    allow_urls: bool = False


class ZeroShotImageClassificationPipeline:
    """Scores of pictures under any labels; made by `pipeline("zero-shot-image-classification", ...)`.

    As in the reference, but right where that is wrong: texts are padded to what the model has room
    for, so that models of 16 positions work; a text is embedded once, not once a picture, and equal
    texts have equal scores; norms and logits are float32 whatever the model computes in.
    """

    task = "zero-shot-image-classification"

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, **defaults: Any) -> None:
        if not hasattr(model, "get_text_features"):
            raise ValueError(f"{self.task} needs a model of both towers, not a {type(model).__name__}")
        self.model = model
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.options = ZeroShotOptions(**defaults)

    def __call__(
        self, image: Any = None, candidate_labels: str | Sequence[Any] | None = None, **options: Any
    ) -> Any:
        """`[{"score": 0.98, "label": "a cat"}, ...]`, the highest first, equal ones in their order.

        image (or images): whatever `load_image` takes. A list gives a list of such lists; an
            iterator or a torch Dataset gives an iterator, which reads on as it is read.
        candidate_labels: a list, or one string with commas. Labels may repeat.
        hypothesis_template: filled by `str.format`, so `{}` or `{0}` stands for the label and `{{`
            for a brace; without a placeholder all labels are one text.
        timeout, allow_urls: see `load_image`.
        tokenizer_kwargs: arguments of the tokenizer that replace padding="max_length",
            truncation=True and max_length.
        batch_size: pictures in one pass of the model.

        Raises ValueError, and FloatingPointError where a model in half precision overflows.
        """
        image = options.pop("images", image)
        chosen = given_options(self.options, candidate_labels=candidate_labels, **options)
        if image is None:
            raise ValueError("give an image or a list of images")
        labels = as_labels(chosen.candidate_labels)
        texts = [fill(chosen.hypothesis_template, label) for label in labels]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self._text_vectors(list(distinct), chosen.tokenizer_kwargs)
        places = [distinct[text] for text in texts]

        def score(images: list[Any]) -> list[list[Score]]:
            rows = self._probabilities(images, vectors, chosen).tolist()
            return [ranked(labels, [row[place] for place in places]) for row in rows]

        return answers(image, chosen.batch_size, score)

    @torch.inference_mode()
    def _text_vectors(self, texts: list[str], tokenizer_kwargs: dict[str, Any]) -> Tensor:
        """Unit vectors [texts, D]."""
        room = self.model.config.text_config.max_position_embeddings
        wanted = {
            "padding": "max_length",
            "max_length": min(self.tokenizer.model_max_length, room),
            "truncation": True,
        }
        given = self.tokenizer(texts, return_tensors="pt", **(wanted | tokenizer_kwargs))
        given = given.to(self.model.device)
        passes = range(0, len(texts), TEXTS_PER_PASS)
        parts = ({k: v[start : start + TEXTS_PER_PASS] for k, v in given.items()} for start in passes)
        vectors = torch.cat([self.model.get_text_features(**part, normalize=True) for part in parts])
        return self._finite(vectors, "text")

    @torch.inference_mode()
    def _probabilities(self, images: list[Any], texts: Tensor, options: ZeroShotOptions) -> Tensor:
        """[images, texts]."""
        given = pixels(self.model, self.image_processor, images, options.timeout, options.allow_urls)
        vectors = self._finite(self.model.get_image_features(**given, normalize=True), "vision")
        z: Tensor = self.model.logits(vectors, texts)
        return z.sigmoid()

    def _finite(self, vectors: Tensor, tower: str) -> Tensor:
        if not vectors.isfinite().all():
            dtype = str(self.model.dtype).removeprefix("torch.")
            raise FloatingPointError(
                f"the {tower} tower's vectors are not finite: it computes in {dtype}, "
                "try torch_dtype=torch.bfloat16 or torch.float32"
            )
        return vectors


def as_labels(labels: str | Iterable[Any] | None) -> list[Any]:
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    found = [] if labels is None else list(labels)
    if not found:
        raise ValueError("candidate_labels must hold at least one label")
    return found


def fill(template: str, label: Any) -> str:
    try:
        return template.format(label)
    except (AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"hypothesis_template must have {{}} where the label goes, and {{{{ for a brace; {template!r} "
            f"cannot be filled: {type(error).__name__}: {error}"
        ) from None


def ranked(labels: list[Any], scores: list[float]) -> list[Score]:
    """The highest first; `sorted` keeps equal ones in their order."""
    pairs = sorted(zip(scores, labels, strict=True), key=lambda pair: -pair[0])
    return [{"score": score, "label": label} for score, label in pairs]
