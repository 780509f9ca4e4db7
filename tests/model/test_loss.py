"""The pairwise sigmoid loss: equal to transformers', exact gradients, float32, little memory."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from siglip_model import SiglipConfig, SiglipModel
from siglip_model.chunked_loss import chunked_sigmoid_loss
from siglip_model.loss import scale_and_bias_for_training, sigmoid_loss
from tests.model.conftest import Compare
from tests.model.reference import inputs, reference

pytestmark = pytest.mark.parity(row="Training", against="the formula written out")


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def written_out(logits: Tensor, targets: Tensor) -> Tensor:
    signs = 2 * targets.to(logits.dtype) - 1
    return -torch.nn.functional.logsigmoid(signs * logits).sum(-1).mean()


def embeddings(n: int, m: int, width: int = 12, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(n + m)
    x, y = (torch.randn(k, width, generator=draw, dtype=dtype) for k in (n, m))
    units = [torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)]
    scalars = [torch.tensor([1.3], dtype=dtype), torch.tensor([-2.5], dtype=dtype)]
    return [tensor.requires_grad_() for tensor in units + scalars]


def logits_of(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return scale.exp() * x @ y.t() + bias


@pytest.mark.parametrize("extreme", [1.0, 200.0])
def test_gradients_and_value_are_those_of_the_formula(extreme: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = (torch.randn(6, 9, generator=draw, dtype=torch.float64) * extreme).requires_grad_()
    targets = torch.rand(6, 9, generator=draw) < 0.3
    loss, formula = sigmoid_loss(logits, targets), written_out(logits, targets)
    torch.testing.assert_close(loss, formula)
    (mine,), (wanted,) = torch.autograd.grad(3 * loss, logits), torch.autograd.grad(3 * formula, logits)
    torch.testing.assert_close(mine, wanted)


def test_the_diagonal_is_the_default() -> None:
    logits = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    diagonal = torch.eye(5, dtype=torch.bool)
    assert torch.equal(sigmoid_loss(logits), sigmoid_loss(logits, diagonal))
    (mine,) = torch.autograd.grad(sigmoid_loss(logits), logits)
    (wanted,) = torch.autograd.grad(sigmoid_loss(logits, diagonal), logits)
    assert torch.equal(mine, wanted)


@pytest.mark.parity(row="Training")
def test_gradients_of_all_weights_are_the_reference_s(tiny: Path, close: Compare) -> None:
    ours, theirs = SiglipModel.from_pretrained(tiny), reference(tiny, "sdpa")
    given = inputs(ours.config, texts=5, images=5) | {"return_loss": True}
    losses = [model(**given).loss for model in (ours, theirs)]
    for loss in losses:
        loss.backward()
    close("loss of a training step", losses[0].detach(), losses[1].detach(), 2e-5)
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        close(
            "gradients of a training step, relative", parameter.grad / largest, wanted[name] / largest, 1e-6
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(64, 64).to(dtype).requires_grad_()
    loss = sigmoid_loss(logits)
    torch.testing.assert_close(loss, sigmoid_loss(logits.float()), rtol=0, atol=0)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad is not None and logits.grad.dtype == dtype


@pytest.mark.parametrize("chunked", [False, True])
def test_a_trained_model_s_small_loss_is_exact(chunked: bool) -> None:
    """True pairs at 17, false ones at -30: a difference of large sums would be noise or zero."""
    x = torch.eye(64).requires_grad_()
    scale, bias = torch.tensor([math.log(47.3)]), torch.tensor([-30.0])
    logits = logits_of(x, x, scale, bias).detach().requires_grad_()
    exact = written_out(logits.double(), torch.eye(64, dtype=torch.bool))
    loss = chunked_sigmoid_loss(x, x, scale, bias) if chunked else sigmoid_loss(logits)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    if not chunked:
        (gradient,), (wanted,) = torch.autograd.grad(loss, logits), torch.autograd.grad(exact, logits)
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=0)


def test_a_loss_scale_reaches_gradients_before_they_are_halved() -> None:
    """Of 64 improbable pairs float16 holds no gradient, 65,536 times it does."""
    tensors = [tensor.detach() for tensor in embeddings(64, 64, dtype=torch.float32)]
    scale, bias = torch.tensor([0.0]), torch.tensor([-14.0])
    groups = {"image_groups": torch.arange(64), "text_groups": torch.arange(64) + 100}
    gradients = []
    for dtype in (torch.float16, torch.float32):
        x, y = (tensor.half().to(dtype).requires_grad_() for tensor in tensors[:2])
        (65_536 * chunked_sigmoid_loss(x, y, scale, bias, **groups)).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[0].float(), gradients[1], rtol=1e-3, atol=1e-7)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "targets", [torch.eye(4, dtype=torch.long), torch.eye(4), torch.eye(3).bool(), torch.ones(4).bool()]
)
def test_targets_other_than_booleans_of_every_pair_are_refused(targets: Tensor) -> None:
    with pytest.raises(ValueError, match=r"targets must be torch\.bool \[4, 4\], not"):
        sigmoid_loss(torch.randn(4, 4), targets)


def test_second_derivatives_are_refused_and_not_zero() -> None:
    x, y, scale, bias = embeddings(5, 5)
    for loss in (sigmoid_loss(logits_of(x, y, scale, bias)), chunked_sigmoid_loss(x, y, scale, bias)):
        with pytest.raises(NotImplementedError, match="no second derivatives"):
            torch.autograd.grad(loss, x, create_graph=True)


def test_one_buffer_beside_the_logits_is_kept() -> None:
    kept = list[int]()
    logits = torch.randn(50, 50, requires_grad=True)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sigmoid_loss(logits).backward()
    assert kept == [logits.untyped_storage().data_ptr()]  # nothing but the logits themselves


def test_start_of_training_from_scratch() -> None:
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = SiglipModel(SiglipConfig(text_config=small | {"vocab_size": 9}, vision_config=small))  # type: ignore[arg-type]
    scale_and_bias_for_training(model)
    assert model.logit_scale.item() == pytest.approx(math.log(10)) and model.logit_bias.item() == -10
    x = torch.nn.functional.normalize(torch.randn(512, 8))
    loss = sigmoid_loss(model.logits(x, x[torch.randperm(512)]))
    assert loss < 20  # mostly the true pairs; with a bias of 0 it would be some 350
    model.logit_bias.data.zero_()
    assert sigmoid_loss(model.logits(x, x)) > 200


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
@pytest.mark.parametrize(("n", "m"), [(7, 7), (7, 10), (10, 4)])
def test_chunked_equals_whole(n: int, m: int, chunk_size: int) -> None:
    tensors = embeddings(n, m)
    draw = torch.Generator().manual_seed(1)
    groups = [torch.randint(0, 5, (k,), generator=draw) for k in (n, m)]
    chunked = chunked_sigmoid_loss(
        *tensors, image_groups=groups[0], text_groups=groups[1], chunk_size=chunk_size
    )
    whole = sigmoid_loss(logits_of(*tensors), groups[0][:, None] == groups[1])
    torch.testing.assert_close(chunked, whole)
    mine, wanted = torch.autograd.grad(2.5 * chunked, tensors), torch.autograd.grad(2.5 * whole, tensors)
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_chunked_gradients_by_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda *t: chunked_sigmoid_loss(*t, chunk_size=2), embeddings(5, 5))


def test_chunked_numbers_pairs_by_itself() -> None:
    tensors = embeddings(6, 6)
    whole = sigmoid_loss(logits_of(*tensors))
    torch.testing.assert_close(chunked_sigmoid_loss(*tensors, chunk_size=4), whole)


def test_chunked_gives_gradients_only_where_asked() -> None:
    x, y, scale, bias = embeddings(6, 6)
    y.requires_grad_(False)
    scale.requires_grad_(False)
    chunked_sigmoid_loss(x, y, scale, bias).backward()
    assert x.grad is not None and bias.grad is not None
    assert y.grad is None and scale.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_chunked_computes_in_float32_under_autocast(dtype: torch.dtype) -> None:
    tensors = [tensor.detach().float().requires_grad_() for tensor in embeddings(32, 32)]
    halves = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors[:2]] + tensors[2:]
    with torch.autocast("cpu", torch.bfloat16):
        loss = chunked_sigmoid_loss(*halves)
    loss.backward()
    exact = sigmoid_loss(logits_of(*(half.detach().float() for half in halves)))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=1e-6, atol=0)
    assert halves[0].grad is not None and halves[0].grad.dtype == dtype


def test_chunked_never_makes_all_logits() -> None:
    tensors = embeddings(256, 256, width=4, dtype=torch.float32)
    with LargestTensor() as largest:
        chunked_sigmoid_loss(*tensors, chunk_size=16).backward()
    assert largest.elements == 16 * 256
    with LargestTensor() as largest:
        sigmoid_loss(logits_of(*tensors)).backward()
    assert largest.elements == 256 * 256


def test_loss_refusals() -> None:
    x, y, scale, bias = embeddings(4, 6)
    ids = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="4 rows and 6 columns need targets"):
        sigmoid_loss(logits_of(x, y, scale, bias))
    with pytest.raises(ValueError, match="4 images and 6 texts need image_groups and text_groups"):
        chunked_sigmoid_loss(x, y, scale, bias)
    with pytest.raises(ValueError, match="both image_groups and text_groups, or neither"):
        chunked_sigmoid_loss(x, y, scale, bias, image_groups=ids)
    with pytest.raises(ValueError, match=r"must be \[4\] and \[6\], not \[4\] and \[4\]"):
        chunked_sigmoid_loss(x, y, scale, bias, image_groups=ids, text_groups=ids)
    with pytest.raises(ValueError, match="chunk_size is 0 and must be at least 1"):
        chunked_sigmoid_loss(x, x, scale, bias, chunk_size=0)
    with pytest.raises(ValueError, match=r"not \[4, 12\] and \[6, 3\]"):
        chunked_sigmoid_loss(x, y[:, :3], scale, bias)
