"""Scores of the labels that a model was fine-tuned for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from siglip_model.pipelines.pictures import Score, answers, given_options, pixels

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=-1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}


@dataclass(frozen=True, kw_only=True)
class ClassificationOptions:
    top_k: int = 5
    function_to_apply: str | None = None
    timeout: float | None = None
    batch_size: int = 1
    allow_urls: bool = False


class ImageClassificationPipeline:
    """Made by `pipeline("image-classification", ...)` from a SiglipForImageClassification."""

    task = "image-classification"

    def __init__(self, model: Any, image_processor: Any, **defaults: Any) -> None:
        if not hasattr(model, "classifier"):
            raise ValueError(f"{self.task} needs a model with a classifier, not a {type(model).__name__}")
        self.model = model
        self.image_processor = image_processor
        self.options = ClassificationOptions(**defaults)

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """`[{"label": "cat", "score": 0.98}, ...]`, the highest first.

        inputs (or images): whatever `load_image` takes, a list of it, an iterator or a Dataset.
        top_k: how many labels of each picture [5].
        function_to_apply: "softmax", "sigmoid" or "none"; without it what the configuration's
            problem_type asks for: none for a regression, which release 4.50 squeezes into 0 to 1,
            sigmoid for several labels at a time or a single one, softmax otherwise.
        timeout, allow_urls, batch_size: as in zero-shot classification.
        """
        inputs = options.pop("images", inputs)
        if inputs is None:
            raise ValueError("give an image or a list of images")
        chosen = given_options(self.options, **options)
        function = FUNCTIONS.get(chosen.function_to_apply or self._usual_function())
        if function is None:
            raise ValueError(
                f"function_to_apply must be one of {', '.join(FUNCTIONS)}, not {chosen.function_to_apply!r}"
            )
        return answers(inputs, chosen.batch_size, lambda some: self._scores(some, function, chosen))

    def _usual_function(self) -> str:
        config = self.model.config
        if config.problem_type == "regression":
            return "none"
        several = config.problem_type == "multi_label_classification"
        return "sigmoid" if several or config.num_labels == 1 else "softmax"

    @torch.inference_mode()
    def _scores(
        self, images: list[Any], function: Callable[[Tensor], Tensor], options: ClassificationOptions
    ) -> list[list[Score]]:
        given = pixels(self.model, self.image_processor, images, options.timeout, options.allow_urls)
        rows = function(self.model(**given).logits.float()).tolist()
        return [self._ranked(row)[: options.top_k] for row in rows]

    def _ranked(self, scores: list[float]) -> list[Score]:
        names = self.model.config.id2label
        found = [{"label": names[index], "score": score} for index, score in enumerate(scores)]
        return sorted(found, key=lambda entry: -entry["score"])
