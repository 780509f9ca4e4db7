"""`siglip serve` with two models: real workers of both, and answers of the one that is asked."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from siglip_cli.main import run
from siglip_client import Client, NotFound
from siglip_model import SiglipModel, SiglipTokenizer
from tests.cli.service import serving
from tests.support.checkpoints import write_tiny_checkpoint

TEXTS = ["a cat", "two dogs", ""]


@torch.inference_mode()
def offline(checkpoint: Path) -> npt.NDArray[np.float32]:
    ids, _ = SiglipTokenizer.from_pretrained(checkpoint).encode_batch(TEXTS, 64)
    model = SiglipModel.from_pretrained(checkpoint).eval()
    vectors: npt.NDArray[np.float32] = model.get_text_features(
        torch.from_numpy(ids).long(), normalize=True
    ).numpy()
    return vectors


def test_two_models_of_one_service(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_tiny_checkpoint(tmp_path / "weights", seed=9)
    arguments = ["--towers", "text", "--listen", "127.0.0.1:0"]
    with serving("--model", model, "--more-models", f"other={other}", *arguments) as service:
        address = service.address
        with Client(address) as client:
            for name, checkpoint in (("", model), ("other", other), ("tiny", model)):
                client.model = name
                found = client.embed_texts(TEXTS)
                assert found.model.name == (name or "tiny")
                np.testing.assert_allclose(found.vectors, offline(checkpoint), atol=1e-5)
            client.model = "third"
            with pytest.raises(NotFound, match="'tiny', 'other'"):
                client.get_model()
        assert run(["info", "--address", address, "--served-model", "other", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["name"], shown["served_models"]) == ("other", ["tiny", "other"])
        local = ["--model", str(model), "--more-models", f"other={other}"]
        assert run(["doctor", "--address", address, *local]) == 0
        text = capsys.readouterr().out
        assert "serves 'other'" in text and "text canary of other" in text
        assert "differ" not in text
        assert run(["doctor", "--address", address, "--served-model", "other", *local]) == 0
        text = capsys.readouterr().out
        assert "serves 'other'" in text and "serves 'tiny'" not in text and "differ" not in text
        swapped = ["--model", str(other), "--model-name", "tiny", "--more-models", f"other={model}"]
        assert run(["doctor", "--address", address, *swapped]) == 0
        text = capsys.readouterr().out
        assert "local ones of 'tiny'" in text and "local ones of 'other'" in text
