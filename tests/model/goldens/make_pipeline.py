"""Writes pipeline.json: what the zero-shot pipeline of transformers 4.50.3 gives for a tiny checkpoint.

Run it from the root with a Python that has that release, as `python -m tests.model.goldens.make_pipeline`.
It imports nothing of the package that is tested. The checkpoint's weights are drawn from a seed, its
vocabulary is `spiece.model` beside this file.
"""

import base64
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import transformers

from tests.support.mild_checkpoint import write_mild_checkpoint
from tests.support.pictures import encoded, scene, with_orientation

HERE = Path(__file__).parent
LABELS = ["two cats", "a red boat", "кошка", "the river, by night", "3 trees!"]
CALLS: list[dict[str, Any]] = [
    {"candidate_labels": LABELS},
    {"candidate_labels": ["a cat", "A CAT", "a dog", "a cat"]},
    {"candidate_labels": ["a cat"]},
    {"candidate_labels": ["cat " * 200, ""]},
    {"candidate_labels": LABELS, "hypothesis_template": "{}"},
    {"candidate_labels": LABELS, "hypothesis_template": "a photo"},
    {"candidate_labels": LABELS, "hypothesis_template": "{{{0}}} and {0}"},
    {"candidate_labels": LABELS, "tokenizer_kwargs": {"padding": "longest"}},
    {"candidate_labels": LABELS, "tokenizer_kwargs": {"max_length": 5}},
    {"candidate_labels": LABELS, "tokenizer_kwargs": {"padding": False, "max_length": 3}},
]


def pictures() -> dict[str, Any]:
    return {
        "Pillow": scene(),
        "base64": base64.b64encode(encoded(scene(90, 50, seed=1), "PNG")).decode(),
        "turned": base64.b64encode(with_orientation(scene(120, 80), "PNG", 6)).decode(),
        "grey": scene(64, 64, seed=2).convert("L"),
        "list": [scene(40, 60, seed=3), scene(50, 30, seed=4)],
    }


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_mild_checkpoint(folder, vocabulary=(HERE / "spiece.model").read_bytes())
        pipe = transformers.pipeline("zero-shot-image-classification", model=folder, device=-1)
        for name, picture in pictures().items():
            for number, options in enumerate(CALLS):
                rows.append({"picture": name, "call": number, "found": pipe(picture, **options)})
    lines = ",\n".join(json.dumps(row) for row in rows)
    header = json.dumps({"transformers": transformers.__version__})[:-1]
    (HERE / "pipeline.json").write_text(f'{header}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
