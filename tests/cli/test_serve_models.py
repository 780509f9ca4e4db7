"""`siglip serve` with two models: real workers of both, and answers of the one that is asked."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from siglip_client import Client, NotFound
from siglip_model import SiglipModel, SiglipTokenizer
from tests.cli.service import serving, siglip
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


def test_two_models_of_one_service(model: Path, tmp_path: Path) -> None:
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
        told = siglip("info", "--address", address, "--served-model", "other", "--json")
        shown = json.loads(told.stdout)
        assert (shown["name"], shown["served_models"]) == ("other", ["tiny", "other"])
        looked = siglip("doctor", "--address", address, "--model", model, "--more-models", f"other={other}")
        assert looked.returncode == 0, looked.stdout
        assert "serves 'other'" in looked.stdout and "text canary of other" in looked.stdout
