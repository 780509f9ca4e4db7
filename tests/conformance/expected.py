"""What the model library says about a request, computed offline: what every client must see."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from siglip_model import SiglipModel, SiglipProcessor, scoring

Floats = npt.NDArray[np.float32]


class Expected:
    """`inputs`: the folder of pictures, which requests name."""

    def __init__(self, checkpoint: Path, inputs: Path) -> None:
        self._inputs = inputs
        self._model = SiglipModel.from_pretrained(checkpoint).eval()
        self._processor = SiglipProcessor.from_pretrained(checkpoint)
        self.text = cache(self._text)
        self.image = cache(self._image)

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Padded to the model's length."""
        found = self._processor(text=texts, padding="max_length", truncation=True, return_tensors="pt")
        return [list(map(int, row)) for row in found["input_ids"]]

    def texts(self, texts: list[str], normalize: bool = True) -> Floats:
        return self._stacked([self.text(each) for each in texts], normalize)

    def images(self, names: list[str], normalize: bool = True) -> Floats:
        return self._stacked([self.image(each) for each in names], normalize)

    def logits(self, names: list[str], texts: list[str]) -> Floats:
        """[images, texts]."""
        return self._scaled(self.images(names), self.texts(texts))

    def classification(self, request: dict[str, Any], labels: list[str], templates: list[str]) -> list[Any]:
        """For each image the (label's index, probability, logit), highest first."""
        under = [self.texts([scoring.fill(template, label) for label in labels]) for template in templates]
        logits = self._scaled(self.images(request["images"]), scoring.ensemble(np.stack(under, axis=1)))
        softmax = request.get("activation") == "ACTIVATION_SOFTMAX"
        probabilities = scoring.softmax(logits) if softmax else scoring.sigmoid(logits)
        top_k, threshold = request.get("top_k", 0), request.get("threshold", 0.0)
        return [
            [(i, float(row[i]), float(logits[n, i])) for i in scoring.rank(row, top_k, threshold)]
            for n, row in enumerate(probabilities)
        ]

    def _scaled(self, images: Floats, texts: Floats) -> Floats:
        scale, bias = float(self._model.logit_scale.exp()), float(self._model.logit_bias)
        return scoring.logits(images, texts, scale, bias)

    def _stacked(self, vectors: list[Floats], normalize: bool) -> Floats:
        stacked = np.stack(vectors)
        return scoring.unit(stacked) if normalize else stacked

    @torch.inference_mode()
    def _text(self, text: str) -> Floats:
        ids = torch.tensor(self.tokens([text]))
        return np.asarray(self._model.get_text_features(ids)[0].numpy())

    @torch.inference_mode()
    def _image(self, name: str) -> Floats:
        with Image.open(self._inputs / name) as image:
            pixels = self._processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        return np.asarray(self._model.get_image_features(pixels)[0].numpy())
