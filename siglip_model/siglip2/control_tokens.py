"""What a `tokenizer.json` reads as one token wherever it is written, and what is to be text instead."""

import json


def without_control_tokens(tokenizer_json: str) -> str:
    """The same tokenizer, for which only runs of spaces and line ends are read whole.

    Not the library's switch for special tokens: Gemma's `<start_of_turn>` and `<unused0>` are not
    called special there, and they are as much beyond a user's reach in training.
    """
    values = json.loads(tokenizer_json)
    added = values.get("added_tokens") or []
    values["added_tokens"] = [token for token in added if not str(token["content"]).strip("▁").strip()]
    return json.dumps(values, ensure_ascii=False)
