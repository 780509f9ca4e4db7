"""How good the model is: zero-shot accuracy where pictures have labels, else retrieval both ways."""

from operator import itemgetter

import torch
from torch import Tensor

from siglip_model.finetune.batches import InOrder, Maker, group_numbers, stream
from siglip_model.finetune.objective import Objective
from siglip_model.finetune.pairs import Data
from siglip_model.finetune.processes import Processes
from siglip_model.scoring import fill

PICTURES_AT_ONCE = 64
TEXTS_AT_ONCE = 256
RANKS = (1, 5, 10)
Scores = dict[str, float]


@torch.no_grad()
def evaluate(objective: Objective, maker: Maker, data: Data, template: str, processes: Processes) -> Scores:
    """Every process computes a share of the vectors; all get the scores."""
    was_training = objective.training
    objective.eval()
    try:
        images, texts, same, right = _vectors(objective, maker, data, processes)
        scores: Scores = {"pairs": len(images)}  # without those whose picture cannot be read
        if data.labels:
            prompts = [fill(template, label) for label in data.labels]
            labels = _labels(objective, maker, prompts, processes)
            return scores | {"zero_shot": zero_shot(images, labels, right)}
        return scores | retrieval(images, texts, group_numbers(same))
    finally:
        objective.train(was_training)


def _vectors(
    objective: Objective, maker: Maker, data: Data, processes: Processes
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of images [n, D], of texts [n, D], hashes [n, 2] and numbers of labels [n]; -1 for none."""
    numbers = {label: number for number, label in enumerate(data.labels)}
    blocks = range(processes.rank, -(-len(data.pairs) // PICTURES_AT_ONCE), processes.world)
    mine = []
    with stream(InOrder(maker, PICTURES_AT_ONCE), blocks, 0) as batches:
        for block, batch in zip(blocks, batches, strict=True):
            first = block * PICTURES_AT_ONCE
            pairs = data.pairs[first : first + PICTURES_AT_ONCE]
            right = torch.tensor([numbers.get(pair.label or "", -1) for pair in pairs])
            usable = torch.tensor([pair.name not in batch.bad for pair in pairs])
            parts = (
                objective.image_embeds(batch.pixel_values.to(processes.device)).cpu(),
                objective.text_embeds(batch.input_ids.to(processes.device)).cpu(),
                batch.same,
                right,
            )
            mine.append((block, [part[usable] for part in parts]))
    gathered = sorted((part for parts in processes.gather_objects(mine) for part in parts), key=itemgetter(0))
    columns = zip(*(tensors for _, tensors in gathered), strict=True)
    images, texts, same, right = (torch.cat(column) for column in columns)
    return images, texts, same, right


def _labels(objective: Objective, maker: Maker, prompts: list[str], processes: Processes) -> Tensor:
    ids, _ = maker.processor.tokenizer.encode_batch(prompts, maker.text_length)
    batches = torch.split(torch.from_numpy(ids).long(), TEXTS_AT_ONCE)
    return torch.cat([objective.text_embeds(batch.to(processes.device)).cpu() for batch in batches])


def zero_shot(images: Tensor, labels: Tensor, right: Tensor) -> float:
    """How often the right label [n] is the nearest of `labels` [m, D] to an image [n, D]."""
    return float(((images @ labels.t()).argmax(dim=1) == right).float().mean())


def retrieval(images: Tensor, texts: Tensor, groups: Tensor) -> Scores:
    """R@k: how often one of the k nearest is of the same group; equal texts and images count once."""
    found: Scores = {}
    for name, asking, asked in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        ranks = best_ranks(asking, groups, *_once(asked, groups))
        found |= {f"{name}_r@{k}": float((ranks < k).float().mean()) for k in RANKS}
    return found


def _once(vectors: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    first: dict[tuple[bytes, int], int] = {}
    for index, (vector, group) in enumerate(zip(vectors, groups.tolist(), strict=True)):
        first.setdefault((vector.numpy().tobytes(), group), index)
    kept = list(first.values())
    return vectors[kept], groups[kept]


def best_ranks(asking: Tensor, asking_groups: Tensor, asked: Tensor, asked_groups: Tensor) -> Tensor:
    """Of the nearest right answer, from 0; a wrong one at the same distance stands before it."""
    ranks = []
    for rows, groups in zip(torch.split(asking, 1024), torch.split(asking_groups, 1024), strict=True):
        cosines = rows @ asked.t()
        wrong = groups[:, None] != asked_groups[None, :]
        best = cosines.masked_fill(wrong, -2).amax(dim=1, keepdim=True)
        ranks.append(((cosines >= best) & wrong).sum(dim=1))
    return torch.cat(ranks)


def table(step: int, scores: Scores) -> str:
    shown = [f"  {name:<18} {value:.4f}" for name, value in scores.items() if name != "pairs"]
    return "\n".join([f"step {step}, {scores['pairs']:.0f} pairs", *shown])
