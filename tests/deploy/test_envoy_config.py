"""Envoy's configuration fits the gateways it stands before."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from gateway.server import MAX_CALLS_OF_A_CONNECTION
from gateway.stream import HEARTBEAT_S
from siglip_settings import GatewaySettings
from tests.support.envoy import FOLDER, ROOT, binary, configuration, http_filter, manager

DEFAULTS = GatewaySettings(model="any")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return configuration()


@pytest.fixture(scope="module")
def routes(config: dict[str, Any]) -> list[dict[str, Any]]:
    [host] = manager(config)["route_config"]["virtual_hosts"]
    return list(host["routes"])


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


def test_the_address_that_can_stop_it_is_on_loopback(config: dict[str, Any]) -> None:
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_the_gateway_says_first_that_a_call_is_late(routes: list[dict[str, Any]]) -> None:
    _, calls, translated, _ = (each["route"] for each in routes)
    assert seconds(calls["timeout"]) > DEFAULTS.max_deadline_s
    assert seconds(calls["idle_timeout"]) > seconds(calls["timeout"])
    assert translated == calls


def test_a_stream_lives_as_long_as_heartbeats_come(routes: list[dict[str, Any]]) -> None:
    stream = routes[0]
    assert stream["match"]["path"] == "/siglip.v1.EmbeddingService/EmbedStream"
    assert seconds(stream["route"]["timeout"]) == 0
    assert seconds(stream["route"]["idle_timeout"]) > 3 * HEARTBEAT_S


def test_only_what_may_be_sent_again_is(routes: list[dict[str, Any]]) -> None:
    tried = [set(each["route"]["retry_policy"]["retry_on"].split(",")) for each in routes]
    stream, calls, *_ = tried
    assert stream == {"connect-failure", "refused-stream"}
    assert calls == {"unavailable", "connect-failure", "refused-stream", "reset"}
    for file in (embedding_pb2, model_pb2, zero_shot_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                again = method.GetOptions().idempotency_level
                assert bool(again) != (method.name == "EmbedStream"), method.full_name


def test_what_a_gateway_takes_passes(config: dict[str, Any], routes: list[dict[str, Any]]) -> None:
    json_filter, buffer = http_filter(config, "grpc_json_transcoder"), http_filter(config, "buffer")
    assert buffer["max_request_bytes"] == json_filter["max_request_body_size"]
    assert buffer["max_request_bytes"] >= DEFAULTS.max_message_bytes * 4 / 3 + MIB
    assert [bool(each.get("typed_per_filter_config")) for each in routes] == [True, True, False, True]
    assert json_filter["max_response_body_size"] >= 2 * DEFAULTS.max_reply_bytes
    # Five bytes before each message.
    assert routes[1]["request_body_buffer_limit"] >= DEFAULTS.max_message_bytes + 5
    streams = manager(config)["http2_protocol_options"]["max_concurrent_streams"]
    assert streams == MAX_CALLS_OF_A_CONNECTION
    [cluster] = config["static_resources"]["clusters"]
    [http] = cluster["typed_extension_protocol_options"].values()
    upstream = http["explicit_http_config"]["http2_protocol_options"]["max_concurrent_streams"]
    assert upstream <= MAX_CALLS_OF_A_CONNECTION / 2, "calls that have just ended count, too"


def test_every_service_is_there_as_json(config: dict[str, Any]) -> None:
    files = (embedding_pb2, model_pb2, zero_shot_pb2)
    services = {each.full_name for file in files for each in file.DESCRIPTOR.services_by_name.values()}
    assert set(http_filter(config, "grpc_json_transcoder")["services"]) == services


def test_scripts_may_send_and_see_what_the_api_has(config: dict[str, Any]) -> None:
    [host] = manager(config)["route_config"]["virtual_hosts"]
    policy = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert all(set(each) == {"exact"} for each in policy["allow_origin_string_match"]), "any site may call"
    said = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("Metadata that a call may carry")
    keys = re.findall(r"`([a-z]+(?:-[a-z]+)*)[`:]", said[2].partition("\n- ")[0])
    assert {"authorization", "siglip-priority", "x-request-id", "traceparent"} == set(keys)
    assert set(keys) <= set(policy["allow_headers"].split(", "))
    ends = {
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "grpc-retry-pushback-ms",
        "x-request-id",
    }
    assert ends == set(policy["expose_headers"].split(", "))


def test_the_descriptors_are_fresh_and_know_the_details_of_errors(tmp_path: Path) -> None:
    kept = FileDescriptorSet.FromString((FOLDER / "siglip.binpb").read_bytes())
    names = {
        message.name for file in kept.file for message in file.message_type if file.package == "google.rpc"
    }
    assert {"Status", "ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo"} <= names
    assert not any(file.HasField("source_code_info") for file in kept.file)
    assert not stale(ROOT)
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("*.py*"))
    (tmp_path / "deploy" / "envoy").mkdir(parents=True)
    shutil.copy(FOLDER / "siglip.binpb", tmp_path / "deploy" / "envoy")
    types = tmp_path / "protos" / "siglip" / "v1" / "types.proto"
    types.write_text(types.read_text().replace("float scale = 4;", "float scale = 4; bool fresh = 5;"))
    assert stale(tmp_path)


def stale(root: Path) -> bool:
    command = [sys.executable, "-m", "scripts.envoy_descriptors", "--check", "--root", root]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    return done.returncode == 1


def test_the_page_has_no_dead_link() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert links and [link for link in links if not (FOLDER / link).exists()] == []


@pytest.mark.slow
@pytest.mark.skipif(not binary(), reason="no envoy: make deploy-envoy")
def test_envoy_takes_it_as_it_is() -> None:
    command = [binary() or "", "--mode", "validate", "-c", "deploy/envoy/envoy.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
