"""A real service of the demo checkpoint behind a real Envoy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from broker import EmbeddedServer
from siglip_model import SiglipModel, SiglipTokenizer
from siglip_model.modeling import unit
from tests.faults.fleet import CHECKPOINT, Fleet, running
from tests.support.envoy import Envoy, fronting

TEXTS = ["a red circle", "two blue squares", "Zürich"]


@dataclass
class Fronted:
    envoy: Envoy
    fleet: Fleet


@pytest.fixture(scope="session")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """Two gateways, each with no memory of its own, and a worker of each tower."""
    folder = tmp_path_factory.mktemp("envoy")
    with (
        EmbeddedServer() as queue,
        running(queue, folder, gateways=2, workers=1) as fleet,
        fronting(fleet.ports, folder) as envoy,
    ):
        yield Fronted(envoy, fleet)


@pytest.fixture(scope="session")
def text_vectors() -> NDArray[np.float32]:
    """Unit vectors of TEXTS by the model alone: float32 [texts, dim]."""
    model = SiglipModel.from_pretrained(CHECKPOINT)
    ids = SiglipTokenizer.from_pretrained(CHECKPOINT)(
        TEXTS, padding="max_length", return_tensors="pt"
    ).input_ids
    with torch.inference_mode():
        return np.asarray(unit(model.get_text_features(ids)).numpy())
