"""A fine-tuning run from end to end: exact resume after SIGKILL, two processes as one, frozen towers."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from siglip_model import SiglipModel, SiglipProcessor
from siglip_model.finetune.objective import parameter_groups
from siglip_model.finetune.recipe import TrainingError
from siglip_model.finetune.run import finetune
from tests.model.finetune_data import largest_difference, recipe_of, weights, write_pictures
from tests.support.checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws random numbers in training."""
    folder = tmp_path_factory.mktemp("models") / "dropping"
    dropout = {"attention_dropout": 0.2}
    return write_tiny_checkpoint(folder, text=dropout, vision=dropout)


def train_command(checkpoint: Path, data: Path, out: Path, *more: str) -> list[str]:
    plain = ["--workers", "0", "--device", "cpu", "--attention", "eager", "--batch-size", "8"]
    run = ["siglip_cli", "train", str(checkpoint), str(data), "--out", str(out)]
    return ["-m", *run, *plain, "--learning-rate", "1e-3", *more]


def environ() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def kill_after(lines: int, number: int, command: list[str], out: Path) -> "tuple[int, str]":
    """Sends a signal once so many steps are told in metrics.jsonl."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environ(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    metrics = out / "metrics.jsonl"
    while process.poll() is None:
        if metrics.is_file() and metrics.read_text().count("\n") >= lines:
            process.send_signal(number)
            break
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_a_killed_run_continues_to_the_same_bits(dropping: Path, data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finetune(recipe_of(dropping, data, whole, steps=30, save_every_steps=4))
    command = train_command(dropping, data, killed, "--steps", "30", "--save-every-steps", "4")
    code, _ = kill_after(6, signal.SIGKILL, command, killed)
    assert code == -signal.SIGKILL
    assert torch.load(killed / "training_state.pt", weights_only=True)["done"] < 30
    finetune(recipe_of(dropping, data, killed, steps=30, save_every_steps=4, resume=True))
    assert largest_difference(whole, killed) == 0.0
    steps = [json.loads(line)["step"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 31))


@pytest.mark.slow
def test_sigterm_saves_and_says_so(dropping: Path, data: Path, tmp_path: Path) -> None:
    command = train_command(dropping, data, tmp_path / "out", "--steps", "2000")
    code, said = kill_after(3, signal.SIGTERM, command, tmp_path / "out")
    assert code == 130
    (line,) = said.splitlines()
    assert line.startswith("siglip: stopped after step ")
    assert line.endswith("of 2000, saved; continue with --resume")
    assert torch.load(tmp_path / "out" / "training_state.pt", weights_only=True)["done"] >= 3
    SiglipProcessor.from_pretrained(tmp_path / "out")


@pytest.mark.slow
def test_two_processes_train_as_one(tiny: Path, data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    finetune(recipe_of(tiny, data, tmp_path / "one", eval_data=data))
    command = train_command(tiny, data, tmp_path / "two", "--steps", "6", "--eval-data", str(data))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, *command], env=environ(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # A bias of keys shifts all scores of a query alike: its gradient is rounding, which Adam makes large.
    of_keys = ("k_proj.bias", "in_proj_bias")
    assert largest_difference(tmp_path / "one", tmp_path / "two", of_keys) <= 1e-5  # a step moves 1e-3
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [line.get("loss", 0) for line in two] == pytest.approx(
        [line.get("loss", 0) for line in one], rel=1e-5
    )
    assert two[0] == one[0]  # the evaluation before the first step
    assert done.stdout.count("6 steps of 8") == 1


def refused(*command: str) -> str:
    """The one line of a command that fails and ends."""
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.slow
def test_an_error_in_a_reading_process_is_one_line_and_the_end(tiny: Path, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data")
    for picture in data.glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:40])
    command = train_command(tiny, data, tmp_path / "out", "--workers", "2", "--max-bad-pairs", "3")
    line = refused(sys.executable, *command)
    assert line.startswith("siglip: 4 pictures in a row cannot be used: ")
    assert "Traceback" not in line


@pytest.mark.slow
def test_what_cannot_be_saved_is_told(tiny: Path, data: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    out = tmp_path / "out"
    run = shlex.join([sys.executable, *train_command(tiny, data, out, "--steps", "2")])
    line = refused("bash", "-c", f"ulimit -f 64; exec {run}")
    assert line.startswith(f"siglip: cannot save in {out}, where ")
    assert [path.name for path in out.iterdir()] == ["metrics.jsonl"]


def test_a_state_that_is_none_is_refused(tiny: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    torch.save([1], out / "training_state.pt")
    with pytest.raises(TrainingError, match="is not the state of a run"):
        finetune(recipe_of(tiny, data, out, resume=True))


@pytest.mark.parametrize("frozen", ["vision", "text"])
def test_a_frozen_tower_stays(dropping: Path, data: Path, tmp_path: Path, frozen: str) -> None:
    finetune(recipe_of(dropping, data, tmp_path / "out", frozen=frozen, steps=3))
    before, after = weights(dropping), weights(tmp_path / "out")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"text_model", "vision_model", "logit_scale", "logit_bias"} - {f"{frozen}_model"}


def test_only_matrices_decay(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    names = {id(p): name for name, p in model.named_parameters()}
    decaying, others = parameter_groups(model, 0.1)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    kept = {names[id(p)] for p in others["params"]}  # type: ignore[attr-defined]
    assert kept >= {"logit_scale", "logit_bias", "vision_model.head.attention.in_proj_bias"}
    assert {name for name in names.values() if name.endswith("bias") or "norm" in name} <= kept
    assert len(kept) + len(decaying["params"]) == len(names)  # type: ignore[arg-type]


def test_it_learns_in_bfloat16_and_recomputing(tiny: Path, data: Path, tmp_path: Path) -> None:
    finetune(recipe_of(tiny, data, tmp_path / "out", steps=12, precision="bf16", gradient_checkpointing=True))
    losses = [
        json.loads(line)["loss"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < losses[0]


def test_the_schedule(tiny: Path, data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny, data, tmp_path, learning_rate=1.0, warm_up_steps=2)
    rates = [recipe.rate(step, 6) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 25}, "--batch-size is 25 and the data has 24 usable pairs"),
        ({"epochs": 2}, "--epochs is 2 and --steps is 6: give one of them"),
        ({"warm_up_steps": 6}, "--warm-up-steps is 6, of 6 steps in all"),
    ],
)
def test_what_cannot_be_is_refused(
    tiny: Path, data: Path, tmp_path: Path, changed: dict[str, int], said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        finetune(recipe_of(tiny, data, tmp_path / "out", **changed))


def test_a_used_folder_and_another_run_are_refused(tiny: Path, data: Path, tmp_path: Path) -> None:
    finetune(recipe_of(tiny, data, tmp_path / "out", steps=1))
    with pytest.raises(TrainingError, match="is not empty"):
        finetune(recipe_of(tiny, data, tmp_path / "out", steps=1))
    with pytest.raises(TrainingError, match="seed was 0 and is 1 now"):
        finetune(recipe_of(tiny, data, tmp_path / "out", steps=1, resume=True, seed=1))


def test_the_reference_loads_the_result(tiny: Path, data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    finetune(recipe_of(tiny, data, tmp_path / "out", steps=1))
    _, told = transformers.SiglipModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values())


def test_a_run_goes_on_with_as_many_processes_as_it_began(tiny: Path, data: Path, tmp_path: Path) -> None:
    """Each draws its own share of a batch, so another number of them would draw other pairs."""
    finetune(recipe_of(tiny, data, tmp_path / "out", steps=2))
    path = tmp_path / "out" / "training_state.pt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"world": 2}, path)
    with pytest.raises(TrainingError, match="--resume: the run began with 2 processes, not with 1"):
        finetune(recipe_of(tiny, data, tmp_path / "out", steps=2, resume=True))
