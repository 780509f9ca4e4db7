"""Calls through Envoy: gRPC-Web as browsers speak it, JSON as curl does, and gRPC, with their errors."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray
from siglip.v1 import embedding_pb2, embedding_pb2_grpc, model_pb2, model_pb2_grpc

from siglip_cli.probe import serves
from siglip_client import Client, TextItem
from tests.deploy.conftest import TEXTS, Fronted
from tests.support import grpc_web
from tests.support.envoy import FOLDER, ROOT, binary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not binary(), reason="no envoy: make deploy-envoy"),
    pytest.mark.timeout(300),
]

EMBED_TEXTS = "/siglip.v1.EmbeddingService/EmbedTexts"
SITE = "http://localhost:8000"
PICTURE = ROOT / "samples" / "red-circle.jpg"
TOLERANCE = 2e-6


def as_json(fronted: Fronted, method: str, request: dict[str, Any]) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    status, _, body = grpc_web.post(fronted.envoy.address, method, json.dumps(request), headers)
    return status, json.loads(body)


def numbers(vector: dict[str, Any]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(vector["data"]), "<f4")


# gRPC-Web


@pytest.mark.parametrize("form", grpc_web.FORMS)
def test_a_browser_embeds_texts(
    fronted: Fronted, form: grpc_web.Form, text_vectors: NDArray[np.float32]
) -> None:
    request = embedding_pb2.EmbedTextsRequest(texts=TEXTS)
    answer = grpc_web.call(fronted.envoy.address, EMBED_TEXTS, request, form, {"origin": SITE})
    assert answer.trailers["grpc-status"] == "0"
    assert answer.headers["access-control-allow-origin"] == SITE
    reply = embedding_pb2.EmbedTextsResponse.FromString(b"".join(answer.messages))
    got = np.stack([np.frombuffer(result.embedding.data, "<f4") for result in reply.results])
    np.testing.assert_allclose(got, text_vectors, atol=TOLERANCE)


@pytest.mark.parametrize("form", grpc_web.FORMS)
def test_a_browser_sees_why_a_call_failed(fronted: Fronted, form: grpc_web.Form) -> None:
    request = embedding_pb2.EmbedTextsRequest(model="another", texts=TEXTS)
    headers = {"origin": SITE, "x-request-id": "browser-7"}
    answer = grpc_web.call(fronted.envoy.address, EMBED_TEXTS, request, form, headers)
    assert answer.trailers["grpc-status"] == "5"
    assert answer.trailers["x-request-id"] == "browser-7"
    assert "grpc-status-details-bin" in answer.headers["access-control-expose-headers"]
    details = answer.trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info) and info.reason == "MODEL_UNKNOWN"


def preflight(fronted: Fronted, site: str) -> dict[str, str]:
    headers = {
        "origin": site,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-grpc-web,authorization",
    }
    status, got, _ = grpc_web.post(fronted.envoy.address, EMBED_TEXTS, "", headers, "OPTIONS")
    return got | {"status": str(status)}


def test_a_site_is_let_in_and_others_are_not(fronted: Fronted) -> None:
    allowed = preflight(fronted, SITE)
    assert allowed["status"] == "200" and allowed["access-control-allow-origin"] == SITE
    assert "POST" in allowed["access-control-allow-methods"]
    assert {"content-type", "x-grpc-web", "authorization"} <= set(
        allowed["access-control-allow-headers"].split(", ")
    )
    assert "access-control-allow-origin" not in preflight(fronted, "http://evil.example")


# JSON


def test_json_gives_the_vectors_of_the_model_alone(
    fronted: Fronted, text_vectors: NDArray[np.float32]
) -> None:
    status, reply = as_json(fronted, EMBED_TEXTS, {"texts": TEXTS})
    assert status == 200
    got = np.stack([numbers(result["embedding"]) for result in reply["results"]])
    np.testing.assert_allclose(got, text_vectors, atol=TOLERANCE)
    assert reply["model"]["name"] == "shapes" and int(reply["timing"]["total_us"]) > 0


def test_json_classifies_a_picture_and_names_what_is_0_too(fronted: Fronted) -> None:
    image = base64.b64encode(PICTURE.read_bytes()).decode()
    request = {"images": [image, "AAAA"], "labels": ["a red circle", "a green star"]}
    status, reply = as_json(fronted, "/siglip.v1.ZeroShotService/Classify", request)
    best = reply["results"][0]["scores"]["scores"][0]
    assert status == 200 and best["label"] == "a red circle" and best["probability"] > 0.9
    assert best["label_index"] == 0  # a field of value 0
    error = reply["results"][1]["error"]
    assert (error["index"], error["field"], error["code"]) == (1, "images[1]", 3)
    assert error["reason"].startswith("IMAGE_")


def test_json_shows_the_details_of_an_error(fronted: Fronted) -> None:
    status, reply = as_json(fronted, EMBED_TEXTS, {"texts": []})
    assert status == 400 and reply["code"] == 3 and reply["message"].startswith("texts: ")
    details = {each["@type"].rpartition("/")[2]: each for each in reply["details"]}
    assert details["google.rpc.ErrorInfo"]["domain"]
    [violation] = details["google.rpc.BadRequest"]["field_violations"]
    assert violation["field"] == "texts"
    assert details["google.rpc.RequestInfo"]["request_id"]
    status, reply = as_json(fronted, EMBED_TEXTS, {"texts": TEXTS, "model": "another"})
    assert status == 404 and reply["details"][0]["reason"] == "MODEL_UNKNOWN"


def test_what_is_no_request_is_refused(fronted: Fronted) -> None:
    json_type = {"content-type": "application/json"}
    post, address = grpc_web.post, fronted.envoy.address
    assert post(address, EMBED_TEXTS, '{"texts": [', json_type)[0] == 400
    assert post(address, "/siglip.v1.EmbeddingService/Nothing", "{}", json_type)[0] == 404
    assert post(address, "/anything", "{}", json_type)[0] == 404


def test_a_body_larger_than_a_message_is_refused(fronted: Fronted) -> None:
    image = "A" * (50 * 1024 * 1024)
    status, *_ = grpc_web.post(
        fronted.envoy.address,
        "/siglip.v1.EmbeddingService/EmbedImages",
        f'{{"images": ["{image}"]}}',
        {"content-type": "application/json"},
    )
    assert status == 413


def test_a_body_of_almost_a_whole_message_is_not(fronted: Fronted) -> None:
    """It reaches the gateway, which takes no such image."""
    image = base64.b64encode(bytes(30 * 1024 * 1024)).decode()
    status, reply = as_json(fronted, "/siglip.v1.EmbeddingService/EmbedImages", {"images": [image]})
    assert status == 200 and reply["results"][0]["error"]["reason"] == "IMAGE_TOO_LARGE"


# gRPC


def test_grpc_passes_unchanged(fronted: Fronted, text_vectors: NDArray[np.float32]) -> None:
    assert serves(fronted.envoy.address)
    with Client(fronted.envoy.address, retries=0) as client:
        np.testing.assert_allclose(client.embed_texts(TEXTS).vectors, text_vectors, atol=TOLERANCE)
        [image] = client.classify([PICTURE], ["a red circle", "a green star"])
        assert image[0].label == "a red circle" and image[0].probability > 0.9
    with grpc.insecure_channel(fronted.envoy.address) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            model_pb2_grpc.ModelServiceStub(channel).GetModel(
                model_pb2.GetModelRequest(model="another"), metadata=(("x-request-id", "mine-8"),)
            )
        trailing = dict(failed.value.trailing_metadata())
        assert trailing["x-request-id"] == "mine-8"
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND and len(status.details) == 2


def test_an_image_larger_than_a_buffer_of_envoy_passes(fronted: Fronted) -> None:
    with grpc.insecure_channel(fronted.envoy.address) as channel:
        reply = embedding_pb2_grpc.EmbeddingServiceStub(channel).EmbedImages(
            embedding_pb2.EmbedImagesRequest(images=[PICTURE.read_bytes() + bytes(12 * 1024 * 1024)] * 2),
            timeout=60,
        )
    assert [result.WhichOneof("result") for result in reply.results] == ["embedding", "embedding"]


def test_a_stream_passes_in_both_directions(fronted: Fronted, text_vectors: NDArray[np.float32]) -> None:
    """More than its credit, so that it ends only if results come while items go."""
    count = 3000
    with Client(fronted.envoy.address, retries=0) as client:
        results = client.embed_stream(TextItem(each, TEXTS[each % len(TEXTS)]) for each in range(count))
        got = {result.key: result.vector for result in results}
    assert sorted(got) == list(range(count))
    for each in range(len(TEXTS)):
        np.testing.assert_allclose(got[each], text_vectors[each], atol=TOLERANCE)


# The examples of the README


def example(language: str, holds: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.S)
    [found] = [block for block in blocks if holds in block]
    return str(found)


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_the_call_with_curl_runs(fronted: Fronted, text_vectors: NDArray[np.float32]) -> None:
    session = example("console", "curl")
    command = "\n".join(line[2:] for line in session.splitlines() if line.startswith(("$ ", "> ")))
    command = command.replace("localhost:8080", fronted.envoy.address)
    done = subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert numbers(json.loads(done.stdout)["results"][0]["embedding"]) == pytest.approx(
        text_vectors[0], abs=TOLERANCE
    )


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_the_script_of_the_page_runs(
    fronted: Fronted, text_vectors: NDArray[np.float32], tmp_path: Path
) -> None:
    script = example("js", "fetch").replace("localhost:8080", fronted.envoy.address)
    (tmp_path / "page.mjs").write_text(script + "\nconsole.log(JSON.stringify([...vector]));\n")
    done = subprocess.run(["node", tmp_path / "page.mjs"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == pytest.approx(list(text_vectors[0]), abs=TOLERANCE)
