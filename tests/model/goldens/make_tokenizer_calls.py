"""Writes tokenizer_calls.json: what calls of the SigLIP tokenizer of transformers 4.50.3 give.

Run it with a Python that has that release; it imports nothing of this project.
"""

import itertools
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import transformers
from transformers import SiglipTokenizer

HERE = Path(__file__).parent
TEXTS = ["a cat", "two dogs and a bird near three trees in the garden", "", "it ends </s>"]
PAIRS = ["x", "six seven eight", "a", "b"]


def plain(result: Any) -> dict[str, Any]:
    return dict(result)


def calls() -> list[dict[str, Any]]:
    matrix = [
        {"padding": padding, "truncation": truncation, "max_length": length}
        for padding, truncation, length in itertools.product(
            [False, True, "longest", "max_length", "do_not_pad"], [None, True, False], [None, 4, 9, 70]
        )
    ]
    more: list[dict[str, Any]] = [
        {"add_special_tokens": False},
        {"padding": True, "pad_to_multiple_of": 8},
        {"padding": "max_length", "max_length": 12, "truncation": True, "padding_side": "left"},
        {"padding": True, "return_attention_mask": True, "return_length": True},
    ]
    pairs: list[dict[str, Any]] = [
        {"text_pair": PAIRS},
        {"text_pair": PAIRS, "padding": True, "return_attention_mask": True},
        {"text_pair": PAIRS, "truncation": True, "max_length": 9},
        {"text_pair": PAIRS, "truncation": "longest_first", "max_length": 6},
        {"text_pair": PAIRS, "add_special_tokens": False},
    ]
    return matrix + more + pairs


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    tokenizer = SiglipTokenizer(str(HERE / "spiece.model"), model_input_names=["input_ids"])
    rows = [{"options": options, "result": plain(tokenizer(TEXTS, **options))} for options in calls()]
    singles = [
        {"options": options, "result": plain(tokenizer(TEXTS[1], **options))} for options in calls()[:60]
    ]
    ids = [264, 331, 347]
    masks = {
        "built": tokenizer.build_inputs_with_special_tokens(ids, [5, 1]),
        "mask": tokenizer.get_special_tokens_mask(ids, [5]),
        "mask_there": tokenizer.get_special_tokens_mask([264, 1, 2], already_has_special_tokens=True),
        "types": tokenizer.create_token_type_ids_from_sequences(ids, [5]),
        "to_add": [tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)],
        "padded": plain(tokenizer.pad({"input_ids": [[5, 6], [7]]}, padding="max_length", max_length=4)),
    }
    added = {"counts": [tokenizer.add_tokens(["glorp", "Blix", "</s>", "glorp"])]}
    added["counts"].append(tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]}))
    texts = ["a glorp cat blixen Glorp", "a <x> cat<x>b", "glorpblix </s> glorp", "BLIX <X>"]
    added["length"] = len(tokenizer)
    added["texts"] = [
        {
            "text": text,
            "ids": tokenizer(text).input_ids,
            "tokens": tokenizer.tokenize(text),
            "decoded": tokenizer.decode(tokenizer(text).input_ids),
            "skipped": tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True),
        }
        for text in texts
    ]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        names = ("added_tokens.json", "tokenizer_config.json", "special_tokens_map.json")
        added["files"] = {name: json.loads((Path(folder) / name).read_text()) for name in names}
    result = {
        "transformers": transformers.__version__,
        "texts": TEXTS,
        "calls": rows,
        "singles": singles,
        "masks": masks,
        "added": added,
    }
    (HERE / "tokenizer_calls.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
