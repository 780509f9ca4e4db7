"""Several models in one setting."""

import pytest

from siglip_settings import GatewaySettings, SettingsError, WorkerSettings


def test_spaces_around_names_and_checkpoints_do_not_count() -> None:
    _, large, small = GatewaySettings(model="base", more_models="large = ./l , small=org/s@abc").each_model
    assert (large.model, large.model_name, large.revision) == ("./l", "large", None)
    assert (small.model, small.model_name, small.revision) == ("org/s", "small", "abc")


def test_what_is_no_pair_is_named() -> None:
    with pytest.raises(SettingsError, match="--more-models has 'large'; it must be NAME=CHECKPOINT"):
        _ = GatewaySettings(model="base", more_models="a=b, large").each_model


@pytest.mark.parametrize("name", ["\udcff", "two\nlines", "\x1b[31m"])
def test_a_name_that_cannot_be_printed_is_refused(name: str) -> None:
    message = "a model is named .* which cannot be printed; give another --model-name"
    for given in ({"model": name}, {"model": "base", "more_models": f"{name}x=small"}):
        with pytest.raises(SettingsError, match=message):
            GatewaySettings(**given)
    with pytest.raises(SettingsError, match=message):
        WorkerSettings(model="base", model_name=name, tower="text")
