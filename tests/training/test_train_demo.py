"""A few steps of the real training, and the checkpoint that comes out of it."""

from pathlib import Path

import pytest
import torch

from siglip_model import SiglipModel, SiglipProcessor, SiglipTokenizer
from siglip_model.loss import sigmoid_loss
from training.batches import Batch
from training.eval_demo import Judge, scores
from training.muon import orthogonal
from training.train_demo import Optimizer, Plan, demo_config, learn, new_model, publish, train, waves


def plan(vocabulary: Path, steps: int) -> Plan:
    return Plan(steps, minutes=5, scenes=8, captions=4, warm_up=1, seed="test", scratch=vocabulary.parent)


@pytest.fixture(scope="module")
def checkpoint(judge: Judge, vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    training = train(plan(vocabulary, steps=2), judge)
    assert (training.steps, training.scenes) == (2, 16)
    publish(judge, training.told(), folder, fresh_scenes=12)
    return folder


@pytest.fixture(scope="module")
def judge(vocabulary: Path) -> Judge:
    torch.manual_seed(0)
    tokenizer = SiglipTokenizer(vocabulary, model_input_names=["input_ids"])
    return Judge(new_model(demo_config()), tokenizer)


def test_checkpoint_has_the_usual_files_and_fits_into_the_repository(checkpoint: Path) -> None:
    assert {path.name for path in checkpoint.iterdir()} == {
        "README.md",
        "config.json",
        "golden_vectors.json",
        "model.safetensors",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer_config.json",
    }
    assert (checkpoint / "model.safetensors").stat().st_size <= 6_000_000


def test_stored_weights_are_those_that_were_trained(checkpoint: Path, judge: Judge) -> None:
    stored = SiglipModel.from_pretrained(checkpoint).state_dict()
    for name, tensor in judge.model.state_dict().items():
        assert torch.equal(stored[name], tensor), name
    processor = SiglipProcessor.from_pretrained(checkpoint)
    assert processor.image_processor.height_width == (64, 64)
    assert processor.tokenizer.model_input_names == ["input_ids"]


def test_the_card_shows_the_scores_of_the_stored_weights(checkpoint: Path) -> None:
    card = (checkpoint / "README.md").read_text()
    assert "16 scenes in 2 batches" in card
    for score in scores(Judge.of_folder(checkpoint), 12, "fresh"):
        assert f"| {score.name} | {score.value:.3g} |" in card


def test_a_batch_is_learned() -> None:
    torch.manual_seed(0)
    model = new_model(demo_config())
    optimizer = Optimizer(model)
    pixels = torch.randint(0, 255, (8, 3, 64, 64), dtype=torch.uint8)
    batch = Batch(pixels, torch.randint(3, 1000, (8, 64)), torch.eye(8, dtype=torch.bool))
    losses = []
    for _ in range(12):
        losses.append(learn(model, batch))
        optimizer.step(0.5)
    assert losses[-1] < 0.5 * losses[0]


def test_loss_is_the_sum_of_yes_or_no_questions() -> None:
    logits, targets = torch.randn(5, 3), torch.rand(5, 3) < 0.5
    signs = targets.float() * 2 - 1
    expected = -torch.nn.functional.logsigmoid(signs * logits).sum() / 5
    assert torch.allclose(sigmoid_loss(logits, targets), expected)
    square = logits[:3]
    assert torch.allclose(sigmoid_loss(square), sigmoid_loss(square, torch.eye(3, dtype=torch.bool)))
    with pytest.raises(ValueError, match="5 rows and 3 columns"):
        sigmoid_loss(logits)


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    a = Plan(steps=100, minutes=1, scenes=1, captions=1, warm_up=10, seed="", scratch=Path())
    rates = [a.rate(step, a.progress(step, seconds=0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1, abs=0.05)
    assert rates[100] == 0
    assert a.progress(10, seconds=30) == 0.5


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 8, 24), (3, 24, 8)])
def test_muon_makes_matrices_nearly_orthogonal(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_every_position_has_its_own_wave() -> None:
    positions = waves(8, 128)
    assert positions.shape == (64, 128)
    assert torch.cdist(positions, positions).fill_diagonal_(9).min() > 1
