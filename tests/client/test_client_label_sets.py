"""Label sets with both clients: made once, created again when the service has forgotten them."""

from typing import Any

import pytest

from siglip_client import Client, LabelSet
from tests.client.stand_in import StandIn
from tests.gateway.rig import picture

IMAGES = [bytes([number]) * 4 for number in range(7)]
LABELS = ["a", "b"]


def test_it_takes_the_place_of_labels(client: Any, service: StandIn) -> None:
    labels = client.create_label_set(LABELS, ["the {}"])
    assert isinstance(labels, LabelSet) and len(labels) == 2 and labels.expires_in_s == 60
    assert (labels.labels, labels.templates, labels.model.name) == (("a", "b"), ("the {}",), "stand-in")
    found = client.classify(IMAGES, labels, top_k=1)
    plain = client.classify(IMAGES, LABELS, top_k=1)
    assert found.images == plain.images
    assert all(seen.request.label_set == labels.handle for seen in service.calls("Classify")[:3])
    with pytest.raises(ValueError, match="templates belong to the label set"):
        client.classify(IMAGES, labels, templates=["{}"])


def test_one_that_was_forgotten_is_created_again(client: Any, service: StandIn) -> None:
    labels = client.create_label_set(LABELS)
    right = client.classify(IMAGES, labels).images
    service.label_sets.clear()
    # Another model by now: the handle is another one, too.
    service.generation = 1
    assert client.classify(iter(IMAGES), labels).images == right
    assert 2 <= len(service.calls("CreateLabelSet")) <= 4


def test_one_that_stays_unknown_is_replaced_by_its_labels(client: Any, service: StandIn) -> None:
    labels = client.create_label_set(LABELS)

    class Forgetful(dict[str, list[str]]):
        def __contains__(self, handle: object) -> bool:
            return False

    service.label_sets = Forgetful()
    assert client.classify(IMAGES[:1], labels).images == client.classify(IMAGES[:1], LABELS).images
    assert len(service.calls("CreateLabelSet")) == 2


def test_with_a_real_gateway(gateway_address: str) -> None:
    with Client(gateway_address) as client:
        labels = client.create_label_set(LABELS, templates=["a {}", "the {}"])
        found = client.classify([picture(1)], labels)
        assert found.images == client.classify([picture(1)], LABELS, templates=["a {}", "the {}"]).images
        unknown = LabelSet("0" * 64, labels.labels, labels.templates, 1, labels.model)
        assert client.classify([picture(1)], unknown).images == found.images
