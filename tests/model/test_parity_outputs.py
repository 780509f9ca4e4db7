"""What the models return besides vectors: states, weights, loss, other sizes; against transformers."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from siglip_model import SiglipModel, SiglipTextModel, SiglipVisionModel
from siglip_model.outputs import SiglipOutput, TowerOutput
from tests.model.conftest import Compare
from tests.model.reference import EMBEDS, HIDDEN, LOGITS, inputs, reference

pytestmark = pytest.mark.parity(row="Models")

EVERYTHING = {"output_attentions": True, "output_hidden_states": True}


def run(model: Any, **given: Any) -> Any:
    with torch.no_grad():
        return model(**given)


def test_hidden_states_and_attentions(tiny: Path, close: Compare) -> None:
    ours = SiglipModel.from_pretrained(tiny, attn_implementation="eager")
    given = inputs(ours.config)
    mine, theirs = run(ours, **given, **EVERYTHING), run(reference(tiny), **given, **EVERYTHING)
    for tower, layers in (("text_model_output", 3), ("vision_model_output", 2)):
        for kind, count in (("hidden_states", layers + 1), ("attentions", layers)):
            ours_all, theirs_all = getattr(mine[tower], kind), getattr(theirs[tower], kind)
            assert len(ours_all) == len(theirs_all) == count
            for a, b in zip(ours_all, theirs_all, strict=True):
                close(f"{tower}.{kind}", a, b, HIDDEN)
        # The last state comes before the last layer norm.
        assert not torch.equal(mine[tower].hidden_states[-1], mine[tower].last_hidden_state)


@pytest.mark.parametrize(("kind", "key"), [("text", "input_ids"), ("vision", "pixel_values")])
def test_standalone_towers_give_states_and_weights(tiny: Path, kind: str, key: str, close: Compare) -> None:
    ours = {"text": SiglipTextModel, "vision": SiglipVisionModel}[kind].from_pretrained(
        tiny, attn_implementation="eager"
    )
    theirs = reference(tiny, kind=type(ours).__name__)
    given = {key: inputs(SiglipModel.from_pretrained(tiny).config)[key]}
    mine, wanted = run(ours, **given, **EVERYTHING), run(theirs, **given, **EVERYTHING)
    for name in ("hidden_states", "attentions"):
        for a, b in zip(mine[name], wanted[name], strict=True):
            close(f"standalone {kind} {name}", a, b, HIDDEN)


@pytest.mark.parity(row="Attention")
def test_sdpa_falls_back_to_eager_for_weights_and_says_so(tiny: Path) -> None:
    eager = SiglipModel.from_pretrained(tiny, attn_implementation="eager")
    sdpa = SiglipModel.from_pretrained(tiny, attn_implementation="sdpa")
    given = inputs(eager.config)
    with pytest.warns(UserWarning, match='sdpa gives no attention weights.*attn_implementation="eager"'):
        fallen = run(sdpa, **given, output_attentions=True)
    wanted = run(eager, **given, output_attentions=True)
    for a, b in zip(fallen.text_model_output.attentions, wanted.text_model_output.attentions, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=HIDDEN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(sdpa, **given).text_model_output.attentions is None


def test_loss(tiny: Path, close: Compare) -> None:
    ours = SiglipModel.from_pretrained(tiny)
    given = inputs(ours.config, texts=5, images=5) | {"return_loss": True}
    mine, theirs = run(ours, **given), run(reference(tiny, "sdpa"), **given)
    close("loss of a forward pass", mine.loss, theirs.loss, 2e-5)
    assert "loss" not in run(ours, **inputs(ours.config))


def test_loss_of_unequal_counts_is_refused(tiny: Path) -> None:
    model = SiglipModel.from_pretrained(tiny)
    with pytest.raises(ValueError, match="3 rows and 2 columns"):
        run(model, **inputs(model.config), return_loss=True)


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (33, 47), (64, 16), (8, 8)])
def test_interpolated_positions(tiny: Path, size: tuple[int, int], close: Compare) -> None:
    ours = SiglipModel.from_pretrained(tiny)
    given = inputs(ours.config) | {"pixel_values": torch.randn(2, 3, *size)}
    given["interpolate_pos_encoding"] = True  # type: ignore[assignment]
    mine, theirs = run(ours, **given), run(reference(tiny, "sdpa"), **given)
    close("interpolated positions: image_embeds", mine.image_embeds, theirs.image_embeds, EMBEDS)
    features = ours.get_image_features(given["pixel_values"], interpolate_pos_encoding=True)
    torch.testing.assert_close(features, mine.vision_model_output.pooler_output)


def test_another_size_needs_interpolation(tiny: Path) -> None:
    model = SiglipVisionModel.from_pretrained(tiny)
    with pytest.raises(ValueError, match=r"48 x 48, the model takes 32 x 32.*interpolate_pos_encoding=True"):
        model(torch.zeros(1, 3, 48, 48))


def test_features_are_of_unit_length_only_when_asked(tiny: Path, close: Compare) -> None:
    model = SiglipModel.from_pretrained(tiny)
    given = inputs(model.config)
    whole = run(model, **given)
    with torch.no_grad():
        for name, features in (
            ("text", lambda **options: model.get_text_features(given["input_ids"], **options)),
            ("image", lambda **options: model.get_image_features(given["pixel_values"], **options)),
        ):
            raw, units = features(), features(normalize=True)
            tower = "text_model_output" if name == "text" else "vision_model_output"
            assert torch.equal(raw, whole[tower].pooler_output)
            assert torch.equal(units, whole[f"{name}_embeds"])
            assert (raw.norm(dim=-1) - 1).abs().min() > 0.01


def test_tuple_form(tiny: Path) -> None:
    ours = SiglipModel.from_pretrained(tiny)
    given = inputs(ours.config, texts=2)
    mine, theirs = run(ours, **given, return_dict=False), run(reference(tiny), **given, return_dict=False)
    assert shapes(mine) == shapes(theirs)
    with_loss = run(ours, **given, return_loss=True, return_dict=False)
    assert with_loss[0].shape == () and shapes(with_loss[1:]) == shapes(mine)
    ours.config.return_dict = False
    assert isinstance(run(ours, **given), tuple)


def shapes(value: Any) -> Any:
    return tuple(map(shapes, value)) if isinstance(value, tuple | list) else tuple(value.shape)


def test_the_configuration_may_ask(tiny: Path) -> None:
    model = SiglipTextModel.from_pretrained(tiny, output_hidden_states=True)
    output = run(model, input_ids=torch.ones(1, 64, dtype=torch.long))
    assert len(output.hidden_states) == 4
    assert run(model, input_ids=torch.ones(1, 64, dtype=torch.long), output_hidden_states=False)[2:] == ()


def test_outputs_are_read_by_name_key_and_index() -> None:
    state, vector = torch.zeros(1, 2, 3), torch.ones(1, 3)
    tower = TowerOutput(state, vector)
    assert tower.pooler_output is tower["pooler_output"] is tower[1] is vector
    assert list(tower) == list(dict(tower)) == ["last_hidden_state", "pooler_output"]
    assert tower.attentions is None and "attentions" not in tower and tower.get("attentions") is None
    with pytest.raises(KeyError):
        tower["attentions"]
    with pytest.raises(IndexError):
        tower[2]
    assert tower[:1] == (state,)
    whole = SiglipOutput(logits_per_image=vector, text_model_output=tower)
    assert whole.to_tuple()[0] is vector and isinstance(whole.to_tuple()[1], tuple)


@pytest.mark.parametrize("missing", ["input_ids", "pixel_values"])
def test_both_inputs_are_needed(tiny: Path, missing: str) -> None:
    model = SiglipModel.from_pretrained(tiny)
    given = inputs(model.config)
    del given[missing]
    with pytest.raises(ValueError, match=f"You have to specify {missing}"):
        model(**given)


def test_input_embeddings(tiny: Path) -> None:
    text, vision = SiglipTextModel.from_pretrained(tiny), SiglipVisionModel.from_pretrained(tiny)
    ids = torch.full((1, 64), 5)
    before = run(text, input_ids=ids)[1]
    table = torch.nn.Embedding(900, 32)
    text.set_input_embeddings(table)
    assert text.get_input_embeddings() is table
    assert not torch.equal(run(text, input_ids=ids)[1], before)
    convolution = vision.get_input_embeddings()
    assert convolution.kernel_size == (8, 8)
    vision.set_input_embeddings(torch.nn.Conv2d(3, 32, 8, stride=8))
    assert vision.get_input_embeddings() is not convolution


def test_logits_are_those_of_the_whole_model(tiny: Path, close: Compare) -> None:
    model = SiglipModel.from_pretrained(tiny)
    given = inputs(model.config)
    whole = run(model, **given)
    z = model.logits(whole.text_embeds, whole.image_embeds)
    close("logits from embeddings", z.detach(), whole.logits_per_text, LOGITS)
