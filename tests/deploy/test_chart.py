"""What the chart gives, against settings, ports, keys and alerts as the code has them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.autoscaling.day import RULE
from benchmarks.autoscaling.keda import TOLERANCE
from broker import JOB_CLASSES, model_tag
from broker.keys import Keys
from broker.sender import WINDOW_AT_LEAST
from scripts import charts
from scripts.chart import made, stale
from siglip_settings import GatewaySettings, WorkerSettings, load, settings_of
from tests.deploy.manifests import (
    CASES,
    all_of_kind,
    container,
    environ,
    manifests,
    named,
    notes,
    of_kind,
    pod,
)

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = [
    pytest.param(each, id=f"{case}-{each['metadata']['name']}")
    for case in CASES
    for each in of_kind(case, "Deployment")
]
OURS = [each for each in DEPLOYMENTS if "queue" not in str(each.id)]
FINGERPRINT = "df709c74409a3353a45a4fa3e7c7642b4173d26af118a1715a12e5751adabd38"


def test_what_is_made_is_fresh() -> None:
    assert list(stale(ROOT)) == [] and list(charts.stale(ROOT)) == []


def test_autoscaling_sees_that_more_waits_than_slow_workers_do() -> None:
    """One gateway keeps little of their work in Redis, and the autoscaler leaves ratios near 1 alone."""
    values = yaml.safe_load((ROOT / charts.CHART / "values.yaml").read_text())
    asked = values["worker"]["autoscaling"]["entriesPerReplica"]
    assert WINDOW_AT_LEAST / asked > 1 + TOLERANCE


def test_the_simulated_rule_is_that_of_the_chart() -> None:
    scaled = named("scale-to-zero", "ScaledObject", "base-vision")["spec"]
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert {int(each["metadata"]["streamLength"]) for each in scaled["triggers"]} == {RULE.entries_per_worker}
    assert (scaled["pollingInterval"], scaled["cooldownPeriod"]) == (RULE.polling_interval_s, RULE.cooldown_s)
    assert down["stabilizationWindowSeconds"] == RULE.stabilization_s
    assert down["policies"] == [
        {"type": "Percent", "value": 100 * RULE.down_share, "periodSeconds": RULE.down_period_s}
    ]


def test_a_change_makes_it_stale(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copytree(ROOT / charts.RENDERED, tmp_path / charts.RENDERED)
    with (tmp_path / "deploy" / "monitoring" / "alerts.yml").open("a") as alerts:
        alerts.write("# changed\n")
    assert [str(path) for path in stale(tmp_path)] == ["deploy/chart/files/alerts.yml"]
    assert list(charts.stale(tmp_path)) == []
    (tmp_path / charts.CHART / "values.yaml").write_text("# changed\n")
    assert len(list(charts.stale(tmp_path))) == len(CASES) > 0


@pytest.mark.parametrize("deployment", OURS)
def test_variables_are_settings_with_possible_values(deployment: dict[str, Any]) -> None:
    gateway = container(deployment)["name"] == "gateway"
    settings = GatewaySettings if gateway else WorkerSettings
    given = {name: value for name, value in environ(deployment).items() if name.startswith("SIGLIP_")}
    assert given.keys() <= {setting.variable for setting in settings_of(settings)}
    plain = {name: value if isinstance(value, str) else "2" for name, value in given.items()}
    loaded = load(settings, plain)
    assert loaded.model and loaded.redis_url
    secret = given.get("SIGLIP_REDIS_PASSWORD", given["SIGLIP_REDIS_URL"])
    assert isinstance(secret, dict) and "secretKeyRef" in secret


@pytest.mark.parametrize("deployment", OURS)
def test_no_pod_is_killed_while_it_finishes_its_work(deployment: dict[str, Any]) -> None:
    lifecycle = container(deployment).get("lifecycle", {})
    pause_s = int(lifecycle["preStop"]["exec"]["command"][1]) if lifecycle else 0
    drain_s = float(environ(deployment)["SIGLIP_DRAIN_TIMEOUT_S"])
    assert pod(deployment)["terminationGracePeriodSeconds"] > pause_s + drain_s


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_pod_can_do_as_little_as_possible(deployment: dict[str, Any]) -> None:
    spec, only = pod(deployment), container(deployment)
    assert spec["enableServiceLinks"] is False and spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"livenessProbe", "readinessProbe", "resources"} <= only.keys()
    name, _, version = only["image"].rpartition(":")
    assert name and version and version != "latest"


@pytest.mark.parametrize("deployment", OURS)
def test_ports_are_those_that_are_listened_on(deployment: dict[str, Any]) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(deployment)["ports"]}
    variables = environ(deployment)
    assert variables["SIGLIP_METRICS_LISTEN"] == f"0.0.0.0:{ports['metrics']}"
    if "grpc" in ports:
        assert variables["SIGLIP_LISTEN"] == f"0.0.0.0:{ports['grpc']}"


@pytest.mark.parametrize("case", CASES)
def test_what_selects_pods_finds_some(case: str) -> None:
    pods = [each["spec"]["template"]["metadata"]["labels"].items() for each in of_kind(case, "Deployment")]
    for kind in ("Service", "PodDisruptionBudget"):
        for each in of_kind(case, kind):
            selector = each["spec"]["selector"]
            wanted = selector.get("matchLabels", selector).items()
            assert [labels for labels in pods if wanted <= labels], each["metadata"]["name"]
    for scaled in of_kind(case, "ScaledObject") + of_kind(case, "HorizontalPodAutoscaler"):
        target = named(
            case, "Deployment", scaled["spec"]["scaleTargetRef"]["name"].removeprefix("release-siglip-")
        )
        assert "replicas" not in target["spec"]


def test_scalers_look_at_the_streams_that_the_queue_has() -> None:
    tag = model_tag("google/siglip-base-patch16-224", FINGERPRINT)
    wanted = {Keys(tag, shard).requests("vision", each) for shard in range(4) for each in JOB_CLASSES}
    triggers = named("full", "ScaledObject", "base-vision")["spec"]["triggers"]
    streams = [each["metadata"] for each in triggers if each["type"] == "redis-cluster-streams"]
    assert {each["stream"] for each in streams} == wanted and len(streams) == len(wanted)
    # By length: with a group its pending entries would be counted, which workers bound.
    assert all("consumerGroup" not in each and each["streamLength"] == "8" for each in streams)


def test_scalers_find_the_queue_from_their_own_namespace() -> None:
    triggers = named("scale-to-zero", "ScaledObject", "base-text")["spec"]["triggers"]
    queue = named("scale-to-zero", "Service", "queue")["metadata"]["name"]
    assert {each["metadata"]["address"] for each in triggers} == {f"{queue}.{charts.NAMESPACE}:6379"}


def test_calls_wait_for_the_worker_that_they_bring() -> None:
    gateway = named("scale-to-zero", "Deployment", "base-gateway")
    assert environ(gateway)["SIGLIP_NO_WORKER_TIMEOUT_S"] == "31536000"
    # Else the entries that gateways send by themselves would keep the last worker.
    assert environ(gateway)["SIGLIP_CANARY_INTERVAL_S"] == "0"
    # Ready without workers: else no call would come, and none would ever be started.
    assert container(gateway)["readinessProbe"]["grpc"]["service"] == "siglip.v1.ModelService"
    (rule,) = of_kind("scale-to-zero", "PrometheusRule")
    alerts = {each["alert"] for group in rule["spec"]["groups"] for each in group["rules"]}
    assert "SiglipNoWorker" not in alerts and "SiglipQueueAway" in alerts
    other = environ(named("minimal", "Deployment", "base-gateway"))
    assert "SIGLIP_NO_WORKER_TIMEOUT_S" not in other


def test_alerts_and_dashboard_are_those_of_deploy_monitoring() -> None:
    source = yaml.safe_load(Path("deploy/monitoring/alerts.yml").read_text())
    (rule,) = of_kind("full", "PrometheusRule")
    (group,), (given,) = source["groups"], rule["spec"]["groups"]
    assert given["rules"] == [each for each in group["rules"] if each["alert"] != "SiglipCertificateEnds"]
    (dashboard,) = [each for each in of_kind("full", "ConfigMap") if "siglip.json" in each["data"]]
    assert dashboard["data"]["siglip.json"] == Path("deploy/monitoring/dashboard.json").read_text()


def test_secrets_are_mounted_where_settings_look_for_them() -> None:
    gateway = named("full", "Deployment", "base-gateway")
    mounts = {each["mountPath"] for each in container(gateway)["volumeMounts"] if each.get("readOnly")}
    files = {name: value for name, value in environ(gateway).items() if name.endswith("_FILE")}
    assert len(files) == 5
    assert {str(Path(value).parent) for value in files.values()} == mounts
    # Kubernetes cannot probe by gRPC with TLS.
    assert container(gateway)["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert not [each for each in manifests("full") if each["kind"] == "Secret"]


def test_a_tower_has_its_own_values_over_those_of_all() -> None:
    text, vision = (named("full", "Deployment", f"base-{tower}") for tower in ("text", "vision"))
    assert container(vision)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container(vision)["image"].endswith("-cuda") and container(text)["image"].endswith("-cpu")
    assert environ(vision)["SIGLIP_DTYPE"] == "float16"
    assert "nvidia.com/gpu" not in container(text)["resources"]["limits"]
    assert environ(text)["SIGLIP_DEVICE"] == "cpu"


def test_a_model_without_a_tower_has_no_workers_of_it() -> None:
    names = [each["metadata"]["name"] for each in of_kind("full", "Deployment")]
    assert sorted(name for name in names if "pictures" in name) == [
        "release-siglip-pictures-gateway",
        "release-siglip-pictures-vision",
    ]
    assert environ(named("full", "Deployment", "pictures-gateway"))["SIGLIP_TOWERS"] == "vision"


def test_the_schema_knows_the_settings_and_their_bounds() -> None:
    schema = json.loads(dict(made(ROOT))[ROOT / "deploy/chart/values.schema.json"])["$defs"]
    gateway = schema["gatewaySettings"]["properties"]
    assert gateway["max_image_bytes"]["type"] == "integer" and gateway["max_image_bytes"]["minimum"] == 1
    assert gateway["default_deadline_s"]["type"] == "number"
    assert gateway["reflection"]["enum"] == ["auto", "on", "off"]
    assert not {"redis_url", "redis_password", "listen", "token_file", "model"} & gateway.keys()
    assert schema["workerSettings"]["additionalProperties"] is False


def test_whoever_installs_without_tls_and_tokens_is_warned() -> None:
    assert "WARNING: the gateways have neither TLS nor tokens" in notes("minimal")
    assert "WARNING" not in notes("full")


def test_every_kind_of_manifest_is_there() -> None:
    kinds = {each["kind"] for case in CASES for each in manifests(case)}
    assert {"NetworkPolicy", "ScaledObject", "ServiceMonitor", "TriggerAuthentication"} <= kinds
    assert all(each["spec"]["policyTypes"] for each in all_of_kind("NetworkPolicy"))
