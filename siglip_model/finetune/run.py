"""One fine-tuning run: reads the data, takes the steps, saves, evaluates, continues where it stopped."""

import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from siglip_model.files import resolve
from siglip_model.finetune import saving
from siglip_model.finetune.batches import Batch, Maker, TrainingBatches, group_numbers, stream
from siglip_model.finetune.evaluation import Scores, evaluate, table
from siglip_model.finetune.metrics import Metrics
from siglip_model.finetune.objective import Objective, optimizer
from siglip_model.finetune.pairs import Bad, Data
from siglip_model.finetune.processes import Processes, started
from siglip_model.finetune.recipe import Interrupted, Recipe, TrainingError
from siglip_model.finetune.sources import read_data
from siglip_model.finetune.stopping import StopWish
from siglip_model.modeling import SiglipModel
from siglip_model.processor import SiglipProcessor

STORES = ".pictures"


def finetune(recipe: Recipe) -> None:
    """Raises TrainingError, CheckpointError, and Interrupted after a signal."""
    with ExitStack() as stack:
        processes = stack.enter_context(started(recipe.device))
        stop = stack.enter_context(StopWish())
        stores = stack.enter_context(_stores(recipe, processes))
        data, eval_data, bad = processes.from_first(_read(recipe, stores) if processes.first else None)
        Run.prepared(recipe, processes, stop, data, eval_data, bad).go()


@contextmanager
def _stores(recipe: Recipe, processes: Processes) -> Iterator[Path]:
    """A folder inside of the result for the pictures of Parquet files; every process reads it."""
    stores = recipe.out / STORES
    if processes.first:
        saving.prepare(recipe)
        stores.mkdir(exist_ok=True)
    try:
        yield stores
    finally:
        if processes.first:
            shutil.rmtree(stores, ignore_errors=True)


def _read(recipe: Recipe, stores: Path) -> tuple[Data, Data | None, Bad]:
    bad = Bad(recipe.max_bad_pairs)
    data = read_data(recipe.data, recipe, stores / "train", bad)
    eval_data = read_data([recipe.eval_data], recipe, stores / "eval", bad) if recipe.eval_data else None
    for name, reason in bad.reasons.items():
        _warn(name, reason)
    return data, eval_data, bad


def _warn(name: str, reason: str) -> None:
    tqdm.write(f"skipped {name}: {' '.join(reason.split())}", file=sys.stderr)


@dataclass
class Run:
    recipe: Recipe
    processes: Processes
    stop: StopWish
    data: Data
    eval_data: Data | None
    bad: Bad
    processor: SiglipProcessor
    objective: Objective
    wrapped: nn.Module  # the objective, or DistributedDataParallel around it
    optimizer: torch.optim.AdamW
    total_steps: int
    done: int = 0  # steps
    metrics: Metrics | None = field(default=None)  # of the first process

    @classmethod
    def prepared(
        cls,
        recipe: Recipe,
        processes: Processes,
        stop: StopWish,
        data: Data,
        eval_data: Data | None,
        bad: Bad,
    ) -> "Run":
        """Everything loaded, and the saved state in place where the run goes on."""
        recipe.local_batch_size(processes.world)
        total_steps = recipe.total_steps(len(data.pairs))
        recipe.warm_up(total_steps)
        folder = resolve(recipe.checkpoint).folder
        model = SiglipModel.from_pretrained(
            folder, device=processes.device, attn_implementation=recipe.attention
        )
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        objective = Objective(model, recipe.frozen_towers, recipe.precision).train()
        adam = optimizer(model, recipe.weight_decay)
        processor = SiglipProcessor.from_pretrained(folder)
        wrapped: nn.Module = objective
        if processes.world > 1:
            wrapped = DistributedDataParallel(objective)
        run = cls(
            *(recipe, processes, stop, data, eval_data, bad),
            *(processor, objective, wrapped, adam, total_steps),
        )
        run._continue()
        return run

    def _continue(self) -> None:
        digest = self.data.digest()
        state = None
        if self.recipe.resume:
            state = saving.load_state(self.recipe.out, self.recipe, digest, self.processes.world)
        if state is not None:
            self.objective.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.done = state["done"]
            self.bad.reasons |= state["bad"]
        if self.processes.first:
            self.metrics = Metrics(self.recipe.out, self.done)

    def go(self) -> None:
        self._say(self._told())
        if self.done == 0:
            self._evaluate()
        batches = TrainingBatches(
            self._maker(self.data),
            self.recipe.seed,
            self.recipe.batch_size,
            self.processes.rank,
            self.processes.world,
        )
        steps = range(self.done, self.total_steps)
        with ExitStack() as stack:
            bar = stack.enter_context(
                tqdm(
                    total=self.total_steps,
                    initial=self.done,
                    unit="step",
                    disable=not self.processes.first or not sys.stderr.isatty(),
                )
            )
            made = stack.enter_context(stream(batches, steps, self.recipe.workers))
            for batch in made:
                loss = self._step(batch)
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                bar.update()
                if self.done == self.total_steps or self._is_due(self.recipe.save_every_steps):
                    self._save()
                    self._say(f"step {self.done} of {self.total_steps}: loss {loss:.4f}, saved")
                if self.done == self.total_steps or self._is_due(self.recipe.eval_every_steps):
                    self._evaluate()
        self._say(f"done: {self.done} steps, {len(self.bad.reasons)} bad pairs; saved in {self.recipe.out}")

    def _told(self) -> str:
        place = f", {self.processes.world} processes" if self.processes.world > 1 else ""
        held = f"{len(self.data.pairs)} pairs, {self.total_steps} steps of {self.recipe.batch_size}{place}"
        return f"{held}; continuing after step {self.done}" if self.done else held

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.done % every == 0

    def _maker(self, data: Data) -> Maker:
        length = self.objective.model.config.text_config.max_position_embeddings
        return Maker(self.processor, length, data.pairs, self.recipe.max_bad_pairs)

    def _step(self, batch: Batch) -> float:
        """Takes one step and gives its loss, over all processes."""
        began = time.monotonic()
        # All randomness of a step follows from its number, so that a resumed run draws the same.
        torch.manual_seed((self.recipe.seed * 1_000_003 + self.done) * 4099 + self.processes.rank)
        rate = self.recipe.rate(self.done, self.total_steps)
        loss, norm = self._gradients(batch)
        told = [loss, float(len(batch.bad)), float(self.stop.signal)]
        loss_sum, skipped, stopped = self.processes.sum(told)
        loss = loss_sum / self.processes.world
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {self.done + 1}: the loss is {loss:g} and the gradient's length {norm:g}: "
                f"try a lower --learning-rate ({self.recipe.learning_rate:g} now) or --precision float32"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.done += 1
        if skipped:
            self._note_bad(batch.bad)
        self._record(
            loss=loss, learning_rate=rate, gradient_norm=norm, seconds=round(time.monotonic() - began, 4)
        )
        if stopped and self.done < self.total_steps:
            self._save()
            raise Interrupted(
                f"stopped after step {self.done} of {self.total_steps}, saved; continue with --resume"
            )
        return loss

    def _gradients(self, batch: Batch) -> tuple[float, float]:
        """This process's loss, and the length of the gradient of all."""
        device = self.processes.device
        groups = group_numbers(self.processes.gather(batch.same.to(device)).cpu())
        first = self.processes.rank * len(batch)
        mine = groups[first : first + len(batch)].to(device)
        loss = self.wrapped(batch.pixel_values.to(device), batch.input_ids.to(device), mine)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.max_grad_norm)
        return loss.item(), norm.item()

    def _note_bad(self, bad: dict[str, str]) -> None:
        """The same in every process, so that all stop together where there are too many."""
        for reasons in self.processes.gather_objects(bad):
            for name, reason in reasons.items():
                if name not in self.bad.reasons and self.processes.first:
                    _warn(name, reason)
                self.bad.add(name, reason)
        self.bad.check()

    def _save(self) -> None:
        if self.processes.first:
            state: dict[str, Any] = {
                "done": self.done,
                "model": self.objective.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "bad": self.bad.reasons,
                "recipe": self.recipe.deciding(),
                "data": self.data.digest(),
                "world": self.processes.world,
            }
            with saving.failure_told(self.recipe.out):
                saving.save_state(self.recipe.out, state)
                saving.save_checkpoint(self.recipe.out, self.objective.model, self.processor)
        self.processes.wait()

    def _evaluate(self) -> None:
        if self.eval_data is None:
            return
        maker = self._maker(self.eval_data)
        scores: Scores = evaluate(self.objective, maker, self.eval_data, self.recipe.template, self.processes)
        self._record(**scores)
        self._say(table(self.done, scores))

    def _record(self, **fields: float) -> None:
        if self.metrics:
            with saving.failure_told(self.recipe.out):
                self.metrics.write(step=self.done, **fields)

    def _say(self, line: str) -> None:
        if self.processes.first:
            tqdm.write(line)
