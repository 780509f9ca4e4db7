"""The model card of the demo checkpoint, with the scores that its stored weights reached."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.eval_demo import Score, table
from training.scenes import COLOURS, HELD_OUT, SHAPES


@dataclass(frozen=True)
class Training:
    """What it took, from random weights."""

    steps: int
    scenes: int
    minutes: float

    def told(self) -> str:
        return (
            f"`make train-demo`, from random weights: {self.scenes:,} scenes in {self.steps:,} batches, "
            f"{self.minutes:.0f} minutes on 2 CPU cores."
        )


def model_card(parameters: int, told: str, scores: Sequence[Score], fresh_scenes: int) -> str:
    """`told` says how these very weights were trained."""
    pairs = ", ".join(f"{colour} {shape}" for colour, shape in sorted(HELD_OUT))
    return f"""---
license: apache-2.0
pipeline_tag: zero-shot-image-classification
library_name: transformers
tags: [siglip]
---
# shapes: a small SigLIP for demonstrations

It tells coloured shapes apart ({", ".join(COLOURS)};
{", ".join(SHAPES)}), one to four of them,
small or large, on white, grey or black, and roughly where they lie. It knows nothing else: it exists so
that this project can show the whole way from a picture and labels to probabilities with weights that fit
into the repository. {parameters:,} parameters, float32, pictures of 64 x 64, texts of 64 tokens.

## Training

{told}

The code is this project's own: `siglip_model` with the pairwise sigmoid loss, and scenes and captions that
`training/` makes up as it goes, no picture twice. Muon trains the matrices inside the towers, AdamW the
rest; learning rates fall to zero along a cosine; bfloat16 autocast. Of every picture and every caption of a
batch it is known exactly whether the caption is true of the picture, and that is what the loss asks.

Never drawn and never named in training: {pairs}.

## Scores

Of the stored weights on fresh scenes, {fresh_scenes:,} a test (`make eval-demo` measures them again):

{table(scores)}

The first three ask for the best of all 64 "This is a photo of a red circle." of one thing alone. Counting
asks for the best of "This is a photo of two red circles." with one, two, three and four. The true caption
is the scene's own, in any of the wordings of training; false ones are all captions of other scenes that are
not true of it.

## What it cannot do

Say which of two things has which colour: the last line is chance. "A blue triangle and an orange ring" and
"an orange triangle and a blue ring" are the same to it. Large models of this kind are weak there, too.
"""
