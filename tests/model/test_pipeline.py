"""pipeline(): scores and order of the installed transformers, and what it gets wrong done right."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from siglip_model import AutoModel, AutoProcessor, SiglipTextModel, pipeline
from tests.model.conftest import Compare
from tests.model.goldens.make_pipeline import CALLS
from tests.model.goldens.make_pipeline import pictures as recorded_pictures
from tests.model.reference import quiet_reference, reference
from tests.support.mild_checkpoint import write_mild_checkpoint
from tests.support.parity import RECORDED
from tests.support.pictures import encoded, scene, with_orientation

pytestmark = pytest.mark.parity(row="Pipeline")

GOLDENS = Path(__file__).parent / "goldens"
ZERO_SHOT = "zero-shot-image-classification"
LABELS = ["two cats", "a red boat", "кошка", "the river, by night", "3 trees!"]
SCORES = 1e-6  # of sigmoids; logits of this size may differ by 5e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mild_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same scene in the ways that callers have it, and some that turn or convert it."""
    folder = tmp_path_factory.mktemp("pictures")
    png = encoded(scene(), "PNG")
    files = {
        "png": png,
        "jpeg": encoded(scene(90, 150, seed=1), "JPEG"),
        "turned": with_orientation(scene(120, 80), "JPEG", 6),
        "mirrored": with_orientation(scene(120, 80), "PNG", 2),
        "grey": encoded(scene().convert("L"), "PNG"),
        "alpha": encoded(with_alpha(scene()), "PNG"),
        "palette": encoded(scene().convert("P"), "PNG"),
        "cmyk": encoded(scene().convert("CMYK"), "JPEG"),
        "pixmap": encoded(scene(), "PPM"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    text = base64.b64encode(png).decode()
    return {
        "Pillow": scene(),
        "Pillow, turned": Image.open(folder / "turned"),
        "base64": text,
        "base64 in lines": base64.encodebytes(png).decode(),
        "data URI": f"data:image/png;base64,{text}",
    } | {f"path of {name}": str(folder / name) for name in files}


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    quiet_reference()
    return transformers.pipeline(ZERO_SHOT, model=str(folder), device=-1)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Any:
    return pipeline(ZERO_SHOT, model=str(folder))


Found = list[dict[str, Any]]


@pytest.fixture
def same(close: Compare) -> Callable[[str, Found, Found], None]:
    """The same score for each label, highest first; equal ones, which noise may sort, in any order."""

    def compare(stage: str, mine: Found, wanted: Found) -> None:
        assert all(list(entry) == ["score", "label"] for entry in mine), stage
        assert (np.diff([entry["score"] for entry in mine]) <= 0).all(), stage
        by_label = [sorted((str(e["label"]), e["score"]) for e in found) for found in (mine, wanted)]
        assert [label for label, _ in by_label[0]] == [label for label, _ in by_label[1]], stage
        scores = [np.array([score for _, score in found]) for found in by_label]
        close(f"scores, {stage}", *scores, SCORES)

    return compare


def test_equal_texts_have_equal_scores_and_keep_their_order(ours: Any) -> None:
    """In the reference the last bit of equal texts differs from row to row, and decides."""
    for others in range(1, 20):
        labels = [7, *(f"thing {index}" for index in range(others)), "7"]
        found = {repr(entry["label"]): entry["score"] for entry in ours(scene(), labels)}
        assert found["7"] == found["'7'"]
        assert list(found).index("7") + 1 == list(found).index("'7'")
    found = ours(scene(), [f"label {index}" for index in range(100)], hypothesis_template="a photo")
    assert [entry["label"] for entry in found] == [f"label {index}" for index in range(100)]


def test_every_kind_of_input(ours: Any, theirs: Any, pictures: dict[str, Any], same: Any) -> None:
    seen = set()
    for kind, picture in pictures.items():
        mine = ours(picture, candidate_labels=LABELS)
        same(kind, mine, theirs(picture, candidate_labels=LABELS))
        seen.add(mine[0]["score"])
    assert len(seen) >= 7  # turning, grey, palette, ... are seen by the model


@pytest.mark.parametrize(
    "template",
    ["This is a photo of {}.", "{}", "a photo", "{0} and {0}", "a {{photo}} of {}", "{:>12}", "{!r}"],
)
def test_templates(ours: Any, theirs: Any, template: str, same: Any) -> None:
    given = {"candidate_labels": LABELS, "hypothesis_template": template}
    same(f"template {template!r}", ours(scene(), **given), theirs(scene(), **given))


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("one label", ["a cat"]),
        ("repeated labels", ["a cat", "a dog", "a cat", "a cat"]),
        ("equal texts", ["a cat", "A CAT", "a cat!", "a  cat"]),
        ("an empty label", ["", "a cat"]),
        ("numbers", [1, 2.5, "a cat"]),
        ("a label too long", ["cat " * 200, "a cat"]),
        ("many labels", [f"picture {i} of a cat" for i in range(150)]),
    ],
)
def test_labels(ours: Any, theirs: Any, kind: str, labels: list[Any], same: Any) -> None:
    same(kind, ours(scene(), labels), theirs(scene(), labels))


@pytest.mark.parametrize("batch_size", [None, 1, 2, 5])
def test_lists_and_batches(ours: Any, theirs: Any, batch_size: int | None, same: Any) -> None:
    images = [scene(40 + 10 * seed, 60, seed=seed) for seed in range(3)]
    options = {} if batch_size is None else {"batch_size": batch_size}
    wanted = theirs(images, candidate_labels=LABELS)
    for mine in (
        ours(images, candidate_labels=LABELS, **options),
        ours(images=tuple(images), candidate_labels=LABELS, **options),
    ):
        assert len(mine) == len(wanted) == 3
        for one, other in zip(mine, wanted, strict=True):
            same(f"lists, batch_size {batch_size}", one, other)
    assert ours([], candidate_labels=LABELS) == []
    same("a list of one", ours(images[:1], candidate_labels=LABELS)[0], wanted[0])


def test_streams_are_read_as_they_are_asked_for(ours: Any, same: Any) -> None:
    read = []

    def images() -> Iterator[Image.Image]:
        for seed in range(4):
            read.append(seed)
            yield scene(seed=seed)

    found = ours(images(), candidate_labels=LABELS, batch_size=2)
    assert read == []
    first = next(found)
    assert read == [0, 1]
    same("a stream", first, ours(scene(seed=0), candidate_labels=LABELS))
    assert len(list(found)) == 3


def test_a_dataset_is_a_stream(ours: Any) -> None:
    class Scenes(torch.utils.data.Dataset[Image.Image]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Image.Image:
            return scene(seed=index)

    found = ours(Scenes(), candidate_labels=LABELS)
    assert list(found) == ours([scene(seed=0), scene(seed=1)], candidate_labels=LABELS)


def test_labels_may_be_one_string_with_commas(ours: Any) -> None:
    """The reference takes each of its characters for a label."""
    apart = ours(scene(), candidate_labels=["a cat", "a red boat"])
    assert ours(scene(), candidate_labels="a cat, a red boat") == apart


def test_options_may_be_given_when_the_pipeline_is_made(folder: Path, ours: Any) -> None:
    made = pipeline(
        ZERO_SHOT, folder, candidate_labels=["a cat", "a dog"], hypothesis_template="{}", batch_size=2
    )
    wanted = ours(scene(), candidate_labels=["a cat", "a dog"], hypothesis_template="{}")
    assert made(scene()) == wanted
    assert made(scene(), candidate_labels=["a cat"]) == [e for e in wanted if e["label"] == "a cat"]


def by_hand(folder: Path, labels: list[str], **options: Any) -> np.ndarray:
    """The reference's parts put together: its tokenizer, its processor, its model."""
    model, tokenizer = reference(folder, "sdpa"), transformers.SiglipTokenizer.from_pretrained(folder)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=scene(), return_tensors="pt")
    texts = [f"This is a photo of {label}." for label in labels]
    given = tokenizer(texts, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**given, **pixels).logits_per_image.sigmoid()[0].numpy()


def test_a_model_of_16_text_positions(tmp_path: Path, close: Compare) -> None:
    """siglip-so400m-patch14-224 is one; the reference pads to 64 and raises."""
    folder = write_mild_checkpoint(tmp_path, text_length=16)
    labels = [*LABELS, "many words " * 20]
    wanted = by_hand(folder, labels, padding="max_length", max_length=16, truncation=True)
    found = {entry["label"]: entry["score"] for entry in pipeline(ZERO_SHOT, folder)(scene(), labels)}
    close("scores, 16 text positions", [found[label] for label in labels], wanted, SCORES)
    quiet_reference()
    with pytest.raises(ValueError, match="64"):
        transformers.pipeline(ZERO_SHOT, model=str(folder))(scene(), candidate_labels=labels)


def test_tokenizer_kwargs(folder: Path, ours: Any, close: Compare) -> None:
    """The installed release ignores them."""
    for options in ({"padding": "longest"}, {"max_length": 4}):
        whole = {"padding": "max_length", "max_length": 64, "truncation": True} | options
        wanted = by_hand(folder, LABELS, **whole)
        mine = {e["label"]: e["score"] for e in ours(scene(), LABELS, tokenizer_kwargs=options)}
        close(f"scores, tokenizer_kwargs {options}", [mine[label] for label in LABELS], wanted, SCORES)
        assert mine != {e["label"]: e["score"] for e in ours(scene(), LABELS)}


@pytest.mark.parity(row="Pipeline", against=RECORDED)
def test_scores_of_4_50(tmp_path: Path, same: Any) -> None:
    """With tokenizer_kwargs, which later releases ignore."""
    folder = write_mild_checkpoint(tmp_path, vocabulary=(GOLDENS / "spiece.model").read_bytes())
    pipe, pictures = pipeline(ZERO_SHOT, folder), recorded_pictures()
    rows = json.loads((GOLDENS / "pipeline.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == len(pictures) * len(CALLS)
    for row in rows:
        found = pipe(pictures[row["picture"]], **CALLS[row["call"]])
        several = row["picture"] == "list"
        for mine, wanted in zip(
            *((found, row["found"]) if several else ([found], [row["found"]])), strict=True
        ):
            same(f"picture: {row['picture']}", mine, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, "bfloat16"])
def test_half_precision(folder: Path, ours: Any, dtype: Any) -> None:
    half = pipeline(ZERO_SHOT, model=folder, torch_dtype=dtype)
    assert half.model.dtype in (torch.float16, torch.bfloat16)
    found = {entry["label"]: entry["score"] for entry in half(scene(), LABELS)}
    for entry in ours(scene(), LABELS):
        assert abs(logit(found[entry["label"]]) - logit(entry["score"])) < 0.1


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


@pytest.mark.parametrize(
    ("tower", "layer"), [("text", "text_model.head"), ("vision", "vision_model.post_layernorm")]
)
def test_an_overflow_is_an_error_that_names_the_tower(folder: Path, tower: str, layer: str) -> None:
    pipe = pipeline(ZERO_SHOT, folder, torch_dtype=torch.float16)
    with torch.no_grad():
        pipe.model.get_submodule(layer).bias.fill_(65504).mul_(2)
    with pytest.raises(FloatingPointError, match=f"the {tower} tower's vectors .* float16"):
        pipe(scene(), candidate_labels=LABELS)


def test_parts_may_be_given(folder: Path, checkpoints: dict[str, Path], ours: Any) -> None:
    wanted = ours(scene(), LABELS)
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    for given in (
        {"model": model, "processor": processor},
        {"model": model, "processor": str(folder)},
        {"model": model, **parts},
        {"model": folder, "image_processor": str(folder), "tokenizer": folder},
        {"model": folder, "use_fast": False},
        {"model": folder, "model_kwargs": {"attn_implementation": "sdpa"}},
    ):
        assert pipeline(ZERO_SHOT, **given)(scene(), LABELS) == wanted
    other = pipeline(ZERO_SHOT, folder, image_processor=checkpoints["odd"])
    assert other.image_processor.size["height"] == 50
    with pytest.raises(ValueError, match="give image_processor= or processor="):
        pipeline(ZERO_SHOT, model)
    with pytest.raises(ValueError, match="give tokenizer= or processor="):
        pipeline(ZERO_SHOT, model, image_processor=processor.image_processor)


@pytest.mark.parametrize("device", ["cpu", -1, None, "auto", torch.device("cpu")])
def test_devices(folder: Path, device: Any) -> None:
    pipe = pipeline(ZERO_SHOT, folder, device=device)
    expected = "cuda" if torch.cuda.is_available() and device in (None, "auto") else "cpu"
    assert pipe.model.device.type == expected
    assert len(pipe(scene(), LABELS)) == len(LABELS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(folder: Path) -> None:
    """The reference uses the CPU without a word."""
    with pytest.warns(UserWarning, match="device 0 is asked for, this machine has no GPU"):
        assert pipeline(ZERO_SHOT, folder, device=0).model.device.type == "cpu"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"candidate_labels": []}, "at least one label"),
        ({"candidate_labels": None}, "at least one label"),
        ({"candidate_labels": " , "}, "at least one label"),
        ({"candidate_labels": ["a"], "hypothesis_template": "{} {}"}, "cannot be filled"),
        ({"candidate_labels": ["a"], "hypothesis_template": "{label}"}, "cannot be filled"),
        ({"candidate_labels": ["a"], "hypothesis_template": "{"}, "cannot be filled"),
        ({"candidate_labels": ["a"], "hypothesis_template": "{0.nothing}"}, "cannot be filled"),
        ({"candidate_labels": ["a"], "batch_size": 0}, "batch_size must be at least 1"),
        ({"candidate_labels": ["a"], "image": None}, "give an image"),
        ({"candidate_labels": ["a"], "image": "https://example.com/cat.png"}, "allow_urls=True"),
        ({"candidate_labels": ["a"], "image": "no-such-file.jpg"}, "neither a file here"),
    ],
)
def test_wrong_calls(ours: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(**({"image": scene()} | given))


def test_wrong_options(folder: Path, tmp_path: Path, ours: Any) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        ours(scene(), LABELS, no_such_option=1)
    with pytest.raises(TypeError, match="an image must be a Pillow image"):
        ours(np.zeros((8, 8, 3), np.uint8), LABELS)
    for given, message in (
        ({"task": "text-generation"}, "task must be 'zero-shot-image-classification' or"),
        ({"model": None}, "model must be"),
        ({"framework": "tf"}, "framework"),
        ({"device": "cpu", "device_map": "auto"}, "not both"),
    ):
        with pytest.raises(ValueError, match=message):
            pipeline(**({"task": ZERO_SHOT, "model": folder} | given))
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"the model is in torch\.float32"):
        pipeline(ZERO_SHOT, model, processor=processor, torch_dtype="bfloat16")
    SiglipTextModel.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="both towers, not a SiglipTextModel"):
        pipeline(ZERO_SHOT, AutoModel.from_pretrained(tmp_path), processor=processor)
