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
        self._known_texts: dict[str, Floats] = {}
        self._image = cache(self._image_vector)
        # Beside the service that is being tested, threads would only wait for each other.
        torch.set_num_threads(1)

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Padded to the model's length."""
        found = self._processor(text=texts, padding="max_length", truncation=True, return_tensors="pt")
        return [list(map(int, row)) for row in found["input_ids"]]

    def texts(self, texts: list[str], normalize: bool = True) -> Floats:
        new = [each for each in dict.fromkeys(texts) if each not in self._known_texts]
        if new:
            self._known_texts |= dict(zip(new, self._text_vectors(new), strict=True))
        return self._stacked([self._known_texts[each] for each in texts], normalize)

    def images(self, names: list[str], normalize: bool = True) -> Floats:
        return self._stacked([self._image(each) for each in names], normalize)

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
        scale, bias = self._model.logit_scale.exp().item(), self._model.logit_bias.item()
        return scoring.logits(images, texts, scale, bias)

    def _stacked(self, vectors: list[Floats], normalize: bool) -> Floats:
        stacked = np.stack(vectors)
        return scoring.unit(stacked) if normalize else stacked

    @torch.inference_mode()
    def _text_vectors(self, texts: list[str]) -> Floats:
        return np.asarray(self._model.get_text_features(torch.tensor(self.tokens(texts))).numpy())

    @torch.inference_mode()
    def _image_vector(self, name: str) -> Floats:
        with Image.open(self._inputs / name) as image:
            pixels = self._processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        return np.asarray(self._model.get_image_features(pixels)[0].numpy())
