"""A tiny checkpoint whose scores lie between 0.02 and 0.98, where differences are seen.

With the scale of the published models a random picture's scores are all next to zero.
"""

from pathlib import Path

import sentencepiece
from safetensors.numpy import load_file, save_file

from tests.support.checkpoints import write_tiny_checkpoint, write_tokenizer

LOGIT_SCALE, LOGIT_BIAS = 2.0, -0.5


def write_mild_checkpoint(folder: Path | str, text_length: int = 64, vocabulary: bytes | None = None) -> Path:
    """`vocabulary` is a SentencePiece model to take instead of the tests' own."""
    sizes = {}
    if vocabulary is not None:
        sizes = {"vocab_size": sentencepiece.SentencePieceProcessor(model_proto=vocabulary).GetPieceSize()}
    folder = write_tiny_checkpoint(folder, text_length=text_length, text=sizes)
    if vocabulary is not None:
        write_tokenizer(folder, vocabulary, text_length)
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"][:], weights["logit_bias"][:] = LOGIT_SCALE, LOGIT_BIAS
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
