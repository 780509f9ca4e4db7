"""Trains the demo checkpoint "shapes" from scratch: `python -m training.train_demo`."""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from siglip_model import (
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTextConfig,
    SiglipTokenizer,
    SiglipVisionConfig,
)
from siglip_model.golden import write_golden
from siglip_model.golden_vectors import golden_vectors
from siglip_model.loss import sigmoid_loss
from training.batches import TEXT_LENGTH, Batch, Batches, normalized, stream
from training.eval_demo import CHECKPOINT, FRESH_SCENES, Judge, scores, table
from training.model_card import Training, model_card
from training.muon import Muon
from training.scenes import IMAGE_SIZE
from training.vocabulary import PIECES, train_vocabulary

FIRST_SCALE, FIRST_BIAS = math.log(10), -3.0  # the bias is near the log of the share of true pairs
MUON_LEARNING_RATE, ADAM_LEARNING_RATE = 0.02, 1.5e-3
REPORT_EVERY_S = 300
VOCABULARY = "spiece.model"


@dataclass(frozen=True)
class Plan:
    steps: int
    minutes: float  # the learning rate reaches zero by then, whatever the speed
    scenes: int  # of a batch
    captions: int
    warm_up: int  # steps
    seed: str
    scratch: Path  # for what is saved on the way

    def progress(self, step: int, seconds: float) -> float:
        """From 0 to 1, by steps or by time, whichever is ahead."""
        return max(step / self.steps, seconds / (60 * self.minutes))

    def rate(self, step: int, progress: float) -> float:
        """Of the full learning rate: a linear rise, then half a cosine down to zero."""
        return min(1, (step + 1) / self.warm_up) * 0.5 * (1 + math.cos(math.pi * progress))


def demo_config() -> SiglipConfig:
    text = SiglipTextConfig(
        vocab_size=PIECES,
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        projection_size=128,
    )
    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=8,
    )
    return SiglipConfig(text, vision)


def train(plan: Plan, judge: Judge) -> Training:
    """Trains the judge's model; the judge reports on it now and then."""
    optimizer, losses = Optimizer(judge.model), list[float]()
    started = reported = time.monotonic()
    batches = Batches(vocabulary(plan), plan.seed, plan.steps, plan.scenes, plan.captions)
    with tqdm(total=plan.steps, unit="batch") as bar:
        for step, batch in enumerate(stream(batches)):
            progress = plan.progress(step, time.monotonic() - started)
            if progress >= 1:
                break
            losses.append(learn(judge.model, batch))
            optimizer.step(plan.rate(step, progress))
            bar.set_postfix(loss=f"{recent(losses):.3f}", refresh=False)
            bar.update()
            if time.monotonic() - reported > REPORT_EVERY_S:
                tqdm.write(f"step {step}: {report(judge, plan, losses)}")
                reported = time.monotonic()
    return Training(len(losses), len(losses) * plan.scenes, (time.monotonic() - started) / 60)


def vocabulary(plan: Plan) -> Path:
    return plan.scratch / VOCABULARY


def new_model(config: SiglipConfig) -> SiglipModel:
    """Eager attention, because on CPUs its gradient takes half the time of sdpa's."""
    model = SiglipModel(config, "eager")
    nn.init.constant_(model.logit_scale, FIRST_SCALE)
    nn.init.constant_(model.logit_bias, FIRST_BIAS)
    vision = config.vision_config
    positions = model.vision_model.embeddings.position_embedding.weight
    positions.data = 0.7 * waves(vision.image_size // vision.patch_size, vision.hidden_size)
    return model


def waves(side: int, width: int) -> Tensor:
    """[side * side, width]: sine and cosine of row and column, for positions that differ at once."""
    line = torch.arange(side) - side / 2 + 0.5
    frequencies = torch.linspace(math.log(0.15), math.log(0.6 * math.pi), width // 4).exp()
    angles = [grid.reshape(-1, 1) * frequencies for grid in torch.meshgrid(line, line, indexing="ij")]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


class Optimizer:
    """Muon for the matrices inside the towers, AdamW for the rest; scale, bias and norms decay not."""

    def __init__(self, model: SiglipModel) -> None:
        inner, outer, vectors = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
        for name, p in model.named_parameters():
            is_inner = p.ndim == 2 and (".layers." in name or ".head." in name)
            (vectors if p.ndim < 2 else inner if is_inner else outer).append(p)
        groups = [{"params": outer, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
        self.muon = Muon(inner)
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)

    def step(self, rate: float) -> None:
        """`rate` is a share of the full learning rates."""
        self.muon.step(rate * MUON_LEARNING_RATE)
        for group in self.adam.param_groups:
            group["lr"] = rate * ADAM_LEARNING_RATE
        self.adam.step()


def learn(model: SiglipModel, batch: Batch) -> float:
    """Puts the gradients of a batch's loss into the model's parameters."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch.input_ids, normalized(batch.pixels)).logits_per_image
    loss = sigmoid_loss(logits, batch.targets)
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.item()


def recent(losses: list[float]) -> float:
    return sum(losses[-100:]) / len(losses[-100:])


def report(judge: Judge, plan: Plan, losses: list[float]) -> str:
    """Saves the weights as they are, and says how good they are."""
    judge.model.save_pretrained(plan.scratch)
    found = ", ".join(f"{score.name} {score.value:.3f}" for score in scores(judge, 640, "watch"))
    return f"loss {recent(losses):.3f}, {found}"


def publish(judge: Judge, told: str, folder: Path, fresh_scenes: int = FRESH_SCENES) -> None:
    """Writes the checkpoint, reads it back, scores it on fresh scenes and writes the model card."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    judge.model.save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size=size), judge.tokenizer).save_pretrained(folder)
    write_golden(folder, golden_vectors(folder))
    found = scores(Judge.of_folder(folder), fresh_scenes, "fresh")
    parameters = sum(p.numel() for p in judge.model.parameters())
    (folder / "README.md").write_text(model_card(parameters, told, found, fresh_scenes), encoding="utf-8")
    print(table(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=100, help="at most")
    parser.add_argument("--seed", default="train")
    parser.add_argument("--scratch", type=Path, default=Path(".run/train-demo"))
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="folder to write")
    return parser.parse_args()


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    given = arguments()
    plan = Plan(given.steps, given.minutes, 128, 64, 60, given.seed, given.scratch)
    plan.scratch.mkdir(parents=True, exist_ok=True)
    train_vocabulary(vocabulary(plan))
    tokenizer = SiglipTokenizer(vocabulary(plan), model_input_names=["input_ids"])
    judge = Judge(new_model(demo_config()), tokenizer)
    publish(judge, train(plan, judge).told(), given.checkpoint)


if __name__ == "__main__":
    main()
