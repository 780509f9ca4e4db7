"""Writes tokenizer.json: what the SigLIP tokenizer of transformers 4.50.3 gives for many texts.

Run it with a Python that has that release, in this folder; it imports nothing of this project.
`spiece.model` beside it is a SentencePiece model with byte fallback.
"""

import json
import random
import warnings
from pathlib import Path

import transformers
from transformers import SiglipTokenizer

HERE = Path(__file__).parent
WRITTEN = """
|a photo of a cat|A Photo, of a CAT!| leading and trailing  |tab\tand\nnewline|▁|▁▁a ▁ b▁|_|foo_bar|!!!|...a
ΑΣ|ΟΔΥΣΣΕΥΣ ΣΑΣ|İstanbul|STRASSE ß ẞ|ǅ ﬁ ﬀ Ⅷ ½ ①|Ｆｕｌｌ　ｗｉｄｔｈ|e\u0301 é|a\u00adb\u200bc\ufeffd
“quotes” … — ’
</s>|<unk>|a </s> b|a</s>b|</s>a|a</s>|a </s>|</s></s>|a </s> </s> b|</S>|A </S> B|<UNK> x|a <unk> b|<unk>a
!</s>!|▁</s>▁
< / s >|</s|s>|<pad>|<s>|a <pad> b|<0x41>|[CLS] {} {label}|$5.00 & 100%|C:\\path\\to|email@example.com|don't
猫の写真|一张猫的照片。|고양이 사진|фотография кошки|مرحبا بالعالم|שלום|नमस्ते दुनिया|ภาพถ่ายของแมว
😀 👍🏽 👨‍👩‍👧|𝕳𝖊𝖑𝖑𝖔
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
"""


def texts() -> list[str]:
    pick = random.Random(0)
    words = [*WRITTEN.split(), "</s>", "<unk>", "▁", "  ", ",", "A", "ß", "Σ", "0", "猫", "\u3000", "é"]
    written = [text for line in WRITTEN.strip("\n").split("\n") for text in line.split("|")]
    mixed = [pick.choice(["", " "]).join(pick.choices(words, k=pick.randint(1, 9))) for _ in range(200)]
    long = ["word " * 100, "a" * 300, "猫" * 80, "cat </s> " * 40]
    return written + mixed + long


def main() -> None:
    warnings.simplefilter("ignore")
    tokenizer = SiglipTokenizer(str(HERE / "spiece.model"), model_input_names=["input_ids"])
    plain = SiglipTokenizer(str(HERE / "spiece.model"), split_special_tokens=True)
    cased = SiglipTokenizer(str(HERE / "spiece.model"), do_lower_case=False)
    rows = []
    for text in texts():
        ids = tokenizer(text).input_ids
        rows.append(
            {
                "text": text,
                "ids": ids,
                "cut_16": tokenizer(text, padding="max_length", max_length=16, truncation=True).input_ids,
                "plain": plain(text).input_ids,
                "cased": cased(text).input_ids,
                "decoded": tokenizer.decode(ids),
                "decoded_without_specials": tokenizer.decode(ids, skip_special_tokens=True),
            }
        )
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    header = json.dumps({"transformers": transformers.__version__})[:-1]
    (HERE / "tokenizer.json").write_text(f'{header}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
