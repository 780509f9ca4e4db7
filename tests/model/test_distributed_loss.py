"""The ring loss in real processes against the loss of the whole batch in one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from siglip_model import SiglipModel
from siglip_model.chunked_loss import chunked_sigmoid_loss
from siglip_model.distributed_loss import ring_sigmoid_loss
from tests.model.reference import inputs
from tests.model.test_loss import LargestTensor, embeddings

pytestmark = pytest.mark.parity(row="Training", against="one process with the whole batch")

LOCAL = 5  # pairs of one process


def one_process(rank: int, processes: int, store: Path, checkpoint: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", world_size=processes, rank=rank)
    try:
        for world in range(2, processes + 1):
            group = dist.new_group(range(world))
            if rank < world:
                everything(rank, world, group, checkpoint)
    finally:
        dist.destroy_process_group()


def everything(rank: int, world: int, group: Any, checkpoint: Path) -> None:
    shares_add_up_to_the_whole(rank, world, group)
    groups_hold_across_processes(rank, world, group)
    no_tensor_is_larger_than_the_own_batch_squared(group)
    unequal_batches_are_refused_everywhere(rank, group)
    a_model_learns_what_one_process_would_teach_it(rank, world, group, checkpoint)


def mine(rank: int, *tensors: Tensor) -> list[Tensor]:
    rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
    return [tensor.detach()[rows].clone().requires_grad_(tensor.is_floating_point()) for tensor in tensors]


def compare(rank: int, world: int, group: Any, groups: list[Tensor] | None, chunk_size: int) -> None:
    """Value and all four gradients, each as distributed training takes them."""
    whole = embeddings(world * LOCAL, world * LOCAL)
    numbers = dict(zip(("image_groups", "text_groups"), groups, strict=True)) if groups else {}
    wanted = chunked_sigmoid_loss(*whole, **numbers)  # type: ignore[arg-type]
    wanted.backward()

    x, y = mine(rank, *whole[:2])
    scale, bias = (tensor.detach().clone().requires_grad_() for tensor in whole[2:])
    own = {name: mine(rank, value)[0] for name, value in numbers.items()}
    share = ring_sigmoid_loss(x, y, scale, bias, group=group, chunk_size=chunk_size, **own)  # type: ignore[arg-type]
    share.backward()

    mean = share.detach().clone()
    for tensor in (mean, scale.grad, bias.grad):
        dist.all_reduce(tensor, group=group)
        tensor /= world  # type: ignore[operator]
    torch.testing.assert_close(mean, wanted.detach())
    torch.testing.assert_close(scale.grad, whole[2].grad)
    torch.testing.assert_close(bias.grad, whole[3].grad)
    for own_grad, whole_grad in ((x.grad, whole[0].grad), (y.grad, whole[1].grad)):
        # The mean over processes divides by their number what each of them contributes.
        torch.testing.assert_close(own_grad / world, mine(rank, whole_grad)[0].detach())  # type: ignore


def shares_add_up_to_the_whole(rank: int, world: int, group: Any) -> None:
    compare(rank, world, group, None, chunk_size=1024)
    compare(rank, world, group, None, chunk_size=2)


def groups_hold_across_processes(rank: int, world: int, group: Any) -> None:
    draw = torch.Generator().manual_seed(4)
    groups = [torch.randint(0, 6, (world * LOCAL,), generator=draw) for _ in range(2)]
    compare(rank, world, group, groups, chunk_size=3)


def no_tensor_is_larger_than_the_own_batch_squared(group: Any) -> None:
    tensors = embeddings(24, 24, width=2)
    with LargestTensor() as largest:
        ring_sigmoid_loss(*tensors, group=group).backward()
    assert largest.elements == 24 * 24


def unequal_batches_are_refused_everywhere(rank: int, group: Any) -> None:
    tensors = embeddings(LOCAL + rank, LOCAL + rank)
    with pytest.raises(ValueError, match=f"same size; by rank they have {LOCAL} images.*{LOCAL + 1} images"):
        ring_sigmoid_loss(*tensors, group=group)
    groups = torch.arange(LOCAL)
    given = {"image_groups": groups, "text_groups": groups} if rank == 0 else {}
    with pytest.raises(ValueError, match=f"same size.* in {LOCAL} and {LOCAL} groups"):
        ring_sigmoid_loss(*embeddings(LOCAL, LOCAL), group=group, **given)


def a_model_learns_what_one_process_would_teach_it(
    rank: int, world: int, group: Any, checkpoint: Path
) -> None:
    """DistributedDataParallel with recomputed layers: the gradients of one process on the whole batch."""
    single, model = (SiglipModel.from_pretrained(checkpoint).train() for _ in range(2))
    batch = inputs(single.config, texts=world * LOCAL, images=world * LOCAL)
    single(**batch, return_loss=True).loss.backward()
    model.gradient_checkpointing_enable()
    own = {name: mine(rank, tensor)[0].detach() for name, tensor in batch.items()}
    parallel = DistributedDataParallel(model, process_group=group)
    output = parallel(**own)
    loss = ring_sigmoid_loss(
        output.image_embeds, output.text_embeds, model.logit_scale, model.logit_bias, group=group
    )
    loss.backward()
    wanted = dict(single.named_parameters())
    largest = max(parameter.grad.abs().max() for parameter in wanted.values())  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        expected = wanted[name].grad
        assert parameter.grad is not None and expected is not None, name
        torch.testing.assert_close(parameter.grad / largest, expected / largest, rtol=0, atol=1e-6, msg=name)


# Of four processes rings of two and of three are made as well.
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_rings_of_processes(processes: int, tiny: Path, tmp_path: Path) -> None:
    mp.spawn(one_process, args=(processes, tmp_path / "store", tiny), nprocs=processes)  # type: ignore[no-untyped-call]


def test_without_processes_it_is_the_chunked_loss() -> None:
    tensors = embeddings(6, 6)
    assert torch.equal(ring_sigmoid_loss(*tensors), chunked_sigmoid_loss(*tensors))
