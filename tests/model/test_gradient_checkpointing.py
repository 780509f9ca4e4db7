"""Gradients with recomputation equal those without, and less is kept for them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from siglip_model import SiglipModel
from siglip_model.layers import Attention
from tests.model.reference import inputs

pytestmark = pytest.mark.parity(row="Models", against="our own gradients without recomputation")


def kept_bytes(model: SiglipModel) -> tuple[int, dict[str, Tensor]]:
    """Bytes that one training step keeps for its gradients, and the gradients."""
    sizes = dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**inputs(model.config, texts=4, images=4), return_loss=True).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return sum(sizes.values()), gradients


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}])
def test_same_gradients_from_less_memory(tiny: Path, options: dict[str, bool] | None) -> None:
    model = SiglipModel.from_pretrained(tiny).train()
    assert model.supports_gradient_checkpointing and not model.is_gradient_checkpointing
    plain_bytes, plain = kept_bytes(model)
    model.gradient_checkpointing_enable(options)
    assert model.is_gradient_checkpointing
    fewer_bytes, again = kept_bytes(model)
    assert plain.keys() == again.keys() == dict(model.named_parameters()).keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=1e-6)
    assert fewer_bytes < plain_bytes / 2
    model.gradient_checkpointing_disable()
    assert kept_bytes(model)[0] == plain_bytes


def test_nothing_is_recomputed_in_evaluation(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    model.gradient_checkpointing_enable()
    bytes_on = kept_bytes(model)[0]
    model.gradient_checkpointing_disable()
    assert kept_bytes(model)[0] == bytes_on


def test_dropout_is_drawn_again_as_it_was(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny).train()
    for module in model.modules():
        if isinstance(module, Attention):
            module.dropout = 0.3
    torch.manual_seed(5)
    plain = kept_bytes(model)[1]
    model.gradient_checkpointing_enable()
    torch.manual_seed(5)
    again = kept_bytes(model)[1]
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=1e-6)


def test_hidden_states_go_along(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny).train()
    model.gradient_checkpointing_enable()
    output = model(**inputs(model.config), output_hidden_states=True)
    assert len(output.text_model_output.hidden_states) == 4
