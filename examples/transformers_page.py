"""The two examples of the SigLIP page of Transformers v4.50: only the imports and the files are others.

SIGLIP_MODEL names another checkpoint, as a folder or a hub id.
"""

import os
from pathlib import Path

import torch
from PIL import Image

from siglip_model import AutoModel, AutoProcessor, pipeline  # there: from transformers import ...

ROOT = Path(__file__).parent.parent
CHECKPOINT = os.environ.get("SIGLIP_MODEL", str(ROOT / "checkpoints" / "shapes"))
PICTURE = ROOT / "samples" / "three-green-hearts.jpg"


def pipeline_usage() -> None:
    # load pipe
    image_classifier = pipeline(task="zero-shot-image-classification", model=CHECKPOINT)

    # load image
    image = Image.open(PICTURE)

    # inference
    candidate_labels = ["three green hearts", "two green hearts", "a red circle"]
    outputs = image_classifier(image, candidate_labels=candidate_labels)
    outputs = [{"score": round(output["score"], 4), "label": output["label"]} for output in outputs]
    print(outputs)


def using_the_model_yourself() -> None:
    model = AutoModel.from_pretrained(CHECKPOINT)
    processor = AutoProcessor.from_pretrained(CHECKPOINT)

    image = Image.open(PICTURE)

    candidate_labels = ["three green hearts", "two green hearts"]
    # follows the pipeline prompt template to get same results
    texts = [f"This is a photo of {label}." for label in candidate_labels]
    # important: we pass `padding=max_length` since the model was trained with this
    inputs = processor(text=texts, images=image, padding="max_length", return_tensors="pt")

    with torch.no_grad():
        outputs = model(**inputs)

    logits_per_image = outputs.logits_per_image
    probs = torch.sigmoid(logits_per_image)  # these are the probabilities
    print(f"{probs[0][0]:.1%} that image 0 is '{candidate_labels[0]}'")


if __name__ == "__main__":
    print(f"{PICTURE.name}, labels with their scores:")
    pipeline_usage()
    print("\nThe same without the pipeline:")
    using_the_model_yourself()
