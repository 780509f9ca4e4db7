"""SiglipForImageClassification against transformers, and under distributed training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from siglip_model import SiglipForImageClassification
from tests.model.conftest import Compare
from tests.model.reference import HIDDEN, reference

pytestmark = pytest.mark.parity(row="Models")

LABELS: dict[str, tuple[int, Tensor]] = {
    "single_label_classification": (5, torch.tensor([4, 0, 2])),
    "multi_label_classification": (5, torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]])),
    "regression": (1, torch.tensor([0.5, -2.0, 3.0])),
}


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def classifier(tiny: Path, folder: Path, labels: int) -> Path:
    """A checkpoint with a random head, written by this project."""
    with pytest.warns(UserWarning, match=r"classifier\.weight"):
        model = SiglipForImageClassification.from_pretrained(tiny, num_labels=labels)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.classifier.weight)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.classifier.bias)  # type: ignore[arg-type]
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("named", [True, False], ids=["problem_type given", "told by the labels"])
def test_logits_and_loss(
    tiny: Path, tmp_path: Path, pixels: Tensor, kind: str, named: bool, close: Compare
) -> None:
    count, labels = LABELS[kind]
    folder = classifier(tiny, tmp_path, count)
    ours = SiglipForImageClassification.from_pretrained(folder)
    theirs = reference(folder, "sdpa", kind="SiglipForImageClassification")
    if named:
        ours.config.problem_type = theirs.config.problem_type = kind
    given: dict[str, Any] = {"pixel_values": pixels, "labels": labels}
    with torch.no_grad():
        mine, wanted = ours(**given), theirs(**given)
    close("classification logits", mine.logits, wanted.logits, HIDDEN)
    close(f"classification loss: {kind}", mine.loss, wanted.loss, 2e-5)
    assert named or ours.config.problem_type is None  # one batch decides nothing for the next


def test_states_weights_and_tuples(tiny: Path, tmp_path: Path, pixels: Tensor, close: Compare) -> None:
    folder = classifier(tiny, tmp_path, 5)
    ours = SiglipForImageClassification.from_pretrained(folder, attn_implementation="eager")
    theirs = reference(folder, kind="SiglipForImageClassification")
    flags = {"output_attentions": True, "output_hidden_states": True}
    with torch.no_grad():
        mine, wanted = ours(pixels, **flags), theirs(pixels, **flags)
        as_tuple = ours(pixels, labels=torch.tensor([0, 1, 2]), return_dict=False)
    for name in ("hidden_states", "attentions"):
        for a, b in zip(mine[name], wanted[name], strict=True):
            close(f"classification {name}", a, b, HIDDEN)
    assert [value.shape for value in as_tuple] == [(), (3, 5)]


def test_no_labels_at_all_gives_the_mean_patch(tiny: Path, pixels: Tensor) -> None:
    model = SiglipForImageClassification.from_pretrained(tiny, num_labels=0)
    assert model(pixels).logits.shape == (3, 32)


def test_an_unknown_problem_type(tiny: Path, tmp_path: Path, pixels: Tensor) -> None:
    model = SiglipForImageClassification.from_pretrained(classifier(tiny, tmp_path, 2))
    model.config.problem_type = "ranking"
    with pytest.raises(ValueError, match=r"problem_type must be one of regression, .* not 'ranking'"):
        model(pixels, labels=torch.tensor([0, 1, 0]))


def test_trains_under_ddp_without_unused_parameters(tiny: Path, tmp_path: Path, pixels: Tensor) -> None:
    """A parameter that gets no gradient makes the second step raise."""
    model = SiglipForImageClassification.from_pretrained(classifier(tiny, tmp_path, 4))
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, world_size=1, rank=0)
    try:
        parallel = DistributedDataParallel(model.train())
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        losses = []
        for _ in range(4):
            loss = parallel(pixel_values=pixels, labels=torch.tensor([0, 1, 3])).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        torch.distributed.destroy_process_group()
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
