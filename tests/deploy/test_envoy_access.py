"""TLS as the README adds it, and tokens that pass through Envoy to the gateways."""

import hashlib
import json
import re
import signal
import ssl
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from siglip_cli.probe import serves
from siglip_client import Client, SiglipError
from tests.deploy.conftest import TEXTS, Fronted
from tests.faults.fleet import CHECKPOINT, START_TIMEOUT_S, Part
from tests.support.certificates import HAS_OPENSSL, Pair, authority, signed
from tests.support.envoy import FOLDER, Envoy, binary, fronting
from tests.support.valkey import free_port, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not binary(), reason="no envoy: make deploy-envoy"),
    pytest.mark.skipif(not HAS_OPENSSL, reason="no openssl"),
    pytest.mark.timeout(300),
]

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded(fronted: Fronted, trusted: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """Envoy with TLS before a gateway that wants tokens, at the queue of the others."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens, port = folder / "tokens.toml", free_port()
    tokens.write_text(f'[tokens.tester]\nsha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n')
    arguments = ["gateway", "--listen", f"127.0.0.1:{port}", "--token-file", str(tokens)]
    environ = {"SIGLIP_REDIS_URL": fronted.fleet.queue.url, "SIGLIP_MODEL": str(CHECKPOINT)}
    gateway = Part("guarded", [*arguments, "--plaintext-tokens", "allow"], environ, folder / "gateway.log")
    gateway.start()
    try:
        wait_until(lambda: serves(f"127.0.0.1:{port}"), START_TIMEOUT_S)
        with fronting([port], folder, tls_of_the_page(signed(trusted, folder, "envoy"))) as envoy:
            yield envoy
    finally:
        gateway.end(signal.SIGTERM)


def tls_of_the_page(pair: Pair) -> dict[str, Any]:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    [block] = [each for each in re.findall(r"```yaml\n(.*?)```", text, re.S) if "transport_socket" in each]
    placed = block.replace("cert.pem", str(pair.certificate)).replace("key.pem", str(pair.key))
    socket: dict[str, Any] = yaml.safe_load(textwrap.dedent(placed))["transport_socket"]
    return socket


def test_a_client_with_tls_and_a_token_is_answered(
    guarded: Envoy, trusted: Pair, text_vectors: NDArray[np.float32]
) -> None:
    with Client(guarded.address, ca_file=trusted.certificate, token=TOKEN, retries=0) as client:
        np.testing.assert_allclose(client.embed_texts(TEXTS).vectors, text_vectors, atol=2e-6)
    stranger = Client(guarded.address, ca_file=trusted.certificate, token="another", retries=0)
    with stranger, pytest.raises(SiglipError) as refused:
        stranger.embed_texts(TEXTS)
    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_json_over_tls_needs_the_token_too(guarded: Envoy, trusted: Pair) -> None:
    assert posted(guarded, trusted, {"authorization": f"Bearer {TOKEN}"})["results"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        posted(guarded, trusted, {})
    with refused.value as reply:
        assert reply.code == 401 and json.load(reply)["code"] == 16
    assert TOKEN not in guarded.access_log.read_text()


def posted(envoy: Envoy, trusted: Pair, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(
        f"https://{envoy.address}/siglip.v1.EmbeddingService/EmbedTexts",
        json.dumps({"texts": TEXTS}).encode(),
        {"content-type": "application/json", **headers},
    )
    context = ssl.create_default_context(cafile=str(trusted.certificate))
    with urllib.request.urlopen(request, timeout=60, context=context) as reply:
        return json.load(reply)
