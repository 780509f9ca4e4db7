"""The pages of a real service, and that every query of dashboard and alerts finds what it asks for."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import EmbeddedServer
from siglip_cli.main import run
from siglip_client import Client, SiglipError
from siglip_metrics import ALL, Page, PageError, new_registry
from tests.cli.service import Service, serving
from tests.support.certificates import HAS_OPENSSL, Pair, authority, signed
from tests.support.pages import Samples, get, scraped, total
from workers.metrics import EVENTS

MONITORING = Path("deploy/monitoring")
# What Prometheus itself adds to each sample.
TARGET_LABELS = {"job", "instance"}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """An authority, and a gateway's certificate of it."""
    if not HAS_OPENSSL:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    ca = authority(folder)
    return ca, signed(ca, folder, "gateway", names="IP:127.0.0.1", days=9)


@pytest.fixture(scope="module")
def watched(model: Path, tls: tuple[Pair, Pair]) -> Iterator[tuple[Service, list[int]]]:
    """A service of which all ports of pages are known."""
    with EmbeddedServer() as queue:
        arguments = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "json"]
        arguments += ["--tls-cert-file", str(tls[1].certificate), "--tls-key-file", str(tls[1].key)]
        with serving("--model", model, "--redis-url", queue.url, *arguments) as service:
            assert service.address
            lines = [json.loads(line) for line in service.err if line.startswith("{")]
            pages = [line["message"] for line in lines if line["message"].startswith("metrics are on")]
            ports = [int(text.rpartition(" ")[2]) for text in pages]
            assert len(ports) == 3
            yield service, ports


@pytest.fixture(scope="module")
def pages(watched: tuple[Service, list[int]], tls: tuple[Pair, Pair], png: bytes) -> Samples:
    """All pages of the service after some calls, good and bad, as one."""
    service, ports = watched
    with Client(service.address, ca_file=tls[0].certificate) as client:
        client.classify([png], ["a", "b"])
        client.embed_images([png, b"no picture"], on_error="return")
        client.model = "other"
        with pytest.raises(SiglipError):
            client.embed_texts(["a"])
    together: Samples = {}
    for port in ports:
        for name, samples in scraped(port).items():
            together.setdefault(name, []).extend(samples)
    together["up"] = [({}, 1.0)]  # Prometheus's own
    return together


def test_a_running_service_is_ready(watched: tuple[Service, list[int]], pages: Samples) -> None:
    _, ports = watched
    assert [get(port, "/readyz") for port in ports] == ["ready\n"] * 3


def test_what_was_done_is_counted(pages: Samples) -> None:
    embed = "siglip.v1.EmbeddingService/EmbedImages"
    assert total(pages, "siglip_calls_total", method=embed, code="OK") == 1
    assert total(pages, "siglip_call_seconds_count", method=embed) == 1
    assert total(pages, "siglip_items_total", tower="vision", outcome="OK") == 2
    assert total(pages, "siglip_items_total", outcome="IMAGE_UNREADABLE") == 1
    assert total(pages, "siglip_stage_seconds_sum", tower="vision", stage="decode") > 0
    assert total(pages, "siglip_live_workers") == 2
    assert total(pages, "siglip_healthy", service="all") == 1
    assert total(pages, "siglip_rows_total") == total(pages, "siglip_batch_rows_sum") >= 4
    assert total(pages, "siglip_compute_seconds_total") > 0
    assert total(pages, "siglip_wait_seconds_count") >= 3
    assert total(pages, "siglip_reply_seconds_sum") > 0
    assert total(pages, "siglip_failed_calls_total", reason="MODEL_UNKNOWN") == 1
    assert total(pages, "siglip_device_memory_bytes") > 1e8
    assert total(pages, "siglip_in_flight_rows") == 0
    assert {labels["model"] for labels, _ in pages["siglip_build_info"]} == {"tiny"}


def test_events_of_workers_are_those_that_are_named(pages: Samples) -> None:
    assert {labels["event"] for labels, _ in pages["siglip_worker_events_total"]} == set(EVENTS)


def test_the_end_of_the_certificate_is_shown(pages: Samples) -> None:
    ends_s = total(pages, "siglip_tls_certificate_expiry_seconds")
    assert 8.9 < (ends_s - time.time()) / 86400 < 9.1


def test_doctor_looks_at_certificates(
    watched: tuple[Service, list[int]],
    tls: tuple[Pair, Pair],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, ca = watched[0].address, tls[0]
    expired = signed(ca, tmp_path, "client", days=-1)

    def found(*arguments: str | Path) -> dict[str, tuple[str, str]]:
        run(["doctor", "--json", "--timeout-s", "5", *map(str, arguments)])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {line["what"]: (line["level"], line["text"]) for line in lines}

    shown = found("--address", address, "--ca-file", ca.certificate)
    level, text = shown["gateway TLS"]
    assert level == "warning" and text.endswith("in 9 days") and shown["gateway"][0] == "ok"
    other_name = address.replace("127.0.0.1", "localhost")
    level, text = found("--address", other_name, "--ca-file", ca.certificate)["gateway TLS"]
    assert level == "problem" and "certificate is not valid for 'localhost'" in text
    level, text = found("--address", address, "--tls", "on")["gateway TLS"]
    assert level == "problem" and "unable to get local issuer certificate" in text
    own = ["--cert-file", expired.certificate, "--key-file", expired.key]
    level, text = found("--address", address, "--ca-file", ca.certificate, *own)["client TLS"]
    assert level == "problem" and text.startswith("ended on ")


def test_what_alerts_rest_on_is_there_before_it_happens(pages: Samples) -> None:
    """A counter that begins with its first event has no increase."""
    calls = {(labels["method"], labels["code"]) for labels, _ in pages["siglip_calls_total"]}
    for method in ("EmbeddingService/EmbedTexts", "ZeroShotService/Classify", "ModelService/GetModel"):
        assert {(f"siglip.v1.{method}", code) for code in ("OK", "INTERNAL", "RESOURCE_EXHAUSTED")} <= calls
    assert {"QUEUE_FULL", "INTERNAL"} <= {
        labels["reason"] for labels, _ in pages["siglip_failed_calls_total"]
    }


def queries() -> list[str]:
    board = json.loads((MONITORING / "dashboard.json").read_text())
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = (MONITORING / "alerts.yml").read_text()
    alerts = re.findall(r"expr: (?:>-\n\s+)?(.+)", rules)
    assert len(panels) >= 15 and len(alerts) == rules.count("- alert:")
    return [*panels, *alerts]


@pytest.mark.parametrize("query", queries())
def test_every_query_finds_its_metrics_and_labels(pages: Samples, query: str) -> None:
    names = re.findall(r"\b((?:siglip|process)_\w+|up\b)(?:\{([^}]*)\})?", query)
    assert names
    for name, matchers in names:
        assert name in pages, f"{name} is not on any page"
        labels = set().union(*(given for given, _ in pages[name])) | TARGET_LABELS
        for label, value in re.findall(r'(\w+)\s*!?=~?\s*"([^"]*)"', matchers):
            assert label in labels
            if label in ("event", "class", "service", "how", "wall", "code"):
                assert value in {given[label] for given, _ in pages[name]}
        grouped = {word for group in re.findall(r"by \(([^)]*)\)", query) for word in group.split(", ")}
        assert grouped - labels - {"le"} == set()


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on this machine")
def test_promtool_agrees() -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["check", "config", "prometheus.yml"]):
        subprocess.run(["promtool", *arguments], cwd=MONITORING, check=True)


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on this machine")
def test_every_alert_fires_on_what_it_is_for() -> None:
    subprocess.run(["promtool", "test", "rules", "alerts.test.yml"], cwd=MONITORING, check=True)
    rules, made = ((MONITORING / name).read_text() for name in ("alerts.yml", "alerts.test.yml"))
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert sorted(alerts) == sorted(set(re.findall(r"alertname: (\w+)", made)))


def test_the_page_itself() -> None:
    ready = {ALL: True, "one": False}
    page = Page("127.0.0.1:0", new_registry(process="test", model="m", fingerprint="f"), lambda: ready)
    assert get(page.port, "/healthz") == "alive\n"
    assert get(page.port, "/readyz") == "ready\n"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(page.port, "/readyz?service=one")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(page.port, "/readyz?service=two")
    ready[ALL] = False
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(page.port, "/readyz")
    assert 'siglip_build_info{fingerprint="f",model="m",process="test"' in get(page.port, "/metrics")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(page.port, "/")
    with pytest.raises(PageError, match="Address already in use"):
        Page(f"127.0.0.1:{page.port}", new_registry(process="", model="", fingerprint=""), dict)
    page.close()
    with pytest.raises(PageError, match="must be host:port"):
        Page("9464", new_registry(process="", model="", fingerprint=""), dict)
