"""The Helm chart: every combination of its modes is what Kubernetes and the operators accept, and what `run` reads."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import runpy
import subprocess
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from programs import path_of
from prometheus_server import prometheus

from exporter.settings.sources import read_settings
from exporter.sqs.names import region_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports what Python has deprecated
    import kubernetes_validate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "sqs-event-exporter"
TOOLS = ROOT / ".kubernetes-tools"
VALIDATE = ROOT / "tests" / "kubernetes" / "validate.mjs"
KUBERNETES = "1.33"
QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
POSTGRES = ("ledger.mode=postgres", "ledger.postgres.url=postgresql://exporter@db.example:5432/exporter")

HOSTS = (
    "sqs.us-east-1.amazonaws.com",
    "sqs-fips.us-east-1.amazonaws.com",
    "sqs.cn-north-1.amazonaws.com.cn",
    "sqs.eu-west-1.api.aws",
    "vpce-0a1b-2c.sqs.us-west-2.vpce.amazonaws.com",
    "eu-west-1.queue.amazonaws.com",
    "queue.amazonaws.com",
    "sqs.eu-west-1.example",
    "sqs:9324",
)

MODES: dict[str, tuple[tuple[str, ...], ...]] = {
    "ledger": ((), POSTGRES),
    "queue": ((), (f"queue={QUEUE_URL}",)),
    "monitoring": ((), ("podMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true")),
    "policies": ((), ("networkPolicy.enabled=true",)),
    "web": ((), ("web.configSecret=web", "web.scheme=HTTPS")),
    "aws": ((), ("aws.region=eu-west-1", "aws.endpointUrl=http://sqs:9324", "aws.credentialsSecret=aws")),
}


@pytest.fixture(scope="module")
def helm() -> str:
    """Give the path of Helm; `bash .ci/kubernetes-tools` fetches it."""
    return path_of(str(TOOLS / "helm"), "that .ci/kubernetes-tools fetches")


def render(helm: str, *settings: str, namespace: str = "shop", release: str = "counts") -> list[dict[str, Any]]:
    """Return the resources of a release with these values."""
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    said = subprocess.run(
        [helm, "template", release, str(CHART), "--namespace", namespace, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return [document for document in yaml.load_all(said.stdout, yaml.CSafeLoader) if document]


def refusal(helm: str, *settings: str) -> str:
    """Return why a release with these values is refused."""
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    said = subprocess.run(
        [helm, "template", "counts", str(CHART), *arguments], capture_output=True, text=True, check=False
    )
    assert said.returncode != 0
    return said.stderr


def of_kind(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one resource of that kind."""
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def settings_of(resources: list[dict[str, Any]], tmp_path: Path, *, environment: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - Settings, whose fields a test looks at
    """Read the rendered settings file as the program does."""
    config = next(resource for resource in resources if "settings.yml" in resource.get("data", {}))
    path = tmp_path / "settings.yml"
    path.write_text(config["data"]["settings.yml"])
    return read_settings({}, {**(environment or {}), "EXPORTER_CONFIG__FILE": str(path)})


def test_it_lints_strictly_with_its_default_values(helm: str) -> None:
    """Nobody has to set anything to look at it."""
    said = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_every_combination_of_modes_is_accepted(helm: str) -> None:
    """Kubernetes' own schemas take the resources, and prometheus-operator's and KEDA's take theirs."""
    combinations = [tuple(itertools.chain(*choice)) for choice in itertools.product(*MODES.values())]
    combinations.append((*POSTGRES, f"queue={QUEUE_URL}", "keda.enabled=true"))
    combinations.append(
        (*POSTGRES, f"keda.queueUrls[0]={QUEUE_URL}", "keda.enabled=true", "keda.triggerAuthentication=a")
    )
    # Most combinations have most resources in common: each is looked at once.
    distinct = {
        json.dumps(resource, sort_keys=True): resource
        for combination in combinations
        for resource in render(helm, *combination)
    }
    others: list[dict[str, Any]] = []
    for resource in distinct.values():
        if resource["apiVersion"].split("/")[0] in {"monitoring.coreos.com", "keda.sh"}:
            others.append(resource)
        else:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    node = path_of("node", "nodejs")
    said = subprocess.run(
        [node, str(VALIDATE), str(TOOLS)], input=json.dumps(others), capture_output=True, text=True, check=True
    )
    assert json.loads(said.stdout) == []
    assert {resource["kind"] for resource in others} == {"PodMonitor", "PrometheusRule", "ScaledObject"}


@pytest.mark.parametrize("settings", [("queue=orders",), (*POSTGRES, "queue=orders")], ids=["sqlite", "postgres"])
def test_the_program_reads_the_settings_that_are_rendered(helm: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    """What the ConfigMap holds is what `run` accepts."""
    read = settings_of(render(helm, *settings), tmp_path)
    assert read.queue == ("orders",)
    assert read.ledger.name == "shop-counts"
    assert read.web.port == 9797


def test_other_settings_are_passed_on_and_go_before_the_charts_own(helm: str, tmp_path: Path) -> None:
    """`settings` takes any flag by its name."""
    resources = render(helm, "queue={orders,shop-*}", "settings.events.labels=currency", "settings.log.format=logfmt")
    read = settings_of(resources, tmp_path)
    assert read.queue == ("orders", "shop-*")
    assert read.log.format == "logfmt"


def test_values_below_which_all_is_commented_out_are_as_if_they_were_not_there(helm: str) -> None:
    """YAML reads them as null."""
    assert render(helm, "queue=orders", "settings=null", "extraArgs=null") == render(helm, "queue=orders")


@pytest.mark.parametrize(("settings", "path"), [((), "/metrics"), (("settings.web.telemetry-path=/shop",), "/shop")])
def test_the_pod_monitor_asks_for_the_path_that_the_settings_name(
    helm: str, settings: tuple[str, ...], path: str
) -> None:
    """Any setting may be passed on, the path of the metrics too."""
    monitor = of_kind(render(helm, "podMonitor.enabled=true", *settings), "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["path"] == path


def test_the_settings_file_goes_before_what_the_image_sets(helm: str, tmp_path: Path) -> None:
    """A variable goes before the file, and the image has some: the port and the format are the chart's all the same."""
    resources = render(helm, "queue=orders", "web.port=8080", "settings.log.format=logfmt")
    (container,) = of_kind(resources, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    of_the_image = dict(re.findall(r"\b(EXPORTER_\w+)=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    of_the_pod = {one["name"]: one["value"] for one in container["env"]}
    assert of_the_image
    read = settings_of(resources, tmp_path, environment=of_the_image | of_the_pod)
    assert read.web.port == container["ports"][0]["containerPort"] == 8080
    assert read.log.format == "logfmt"


def test_a_secret_url_is_given_by_variable_alone(helm: str, tmp_path: Path) -> None:
    """It stands in no ConfigMap, and the program takes it although a file of settings is there."""
    resources = render(helm, "queue=orders", "ledger.mode=postgres", "ledger.postgres.urlSecret.name=db")
    container = of_kind(resources, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "EXPORTER_LEDGER__URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}} in container[
        "env"
    ]
    read = settings_of(resources, tmp_path, environment={"EXPORTER_LEDGER__URL": "postgresql://db/x"})
    assert read.ledger.url == "postgresql://db/x"


def test_sqlite_is_one_replica_with_a_volume_of_its_own(helm: str) -> None:
    """The volume outlives the release, and no second pod can use it."""
    resources = render(helm, "queue=orders")
    spec = of_kind(resources, "StatefulSet")["spec"]
    assert spec["replicas"] == 1
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert "PodDisruptionBudget" not in {resource["kind"] for resource in resources}


def test_a_pod_that_is_not_ready_is_replaced_by_an_upgrade(helm: str) -> None:
    """With Kubernetes' default policy a wrong setting that was corrected would wait for ever for the old pod.

    https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
    """
    assert of_kind(render(helm, "queue=wrong"), "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize(
    ("database", "ports"),
    [
        ("ledger.postgres.url=postgresql://exporter@db.example/exporter", [5432]),
        ("ledger.postgres.url=postgresql://exporter@pooler.example:6432/exporter?sslmode=verify-full", [6432]),
        (r"ledger.postgres.url=postgresql://exporter@a:6432\,b\,[::1]:7000\,[::1]/exporter", [6432, 5432, 7000]),
        ("ledger.postgres.urlSecret.name=db", [5432]),
    ],
)
def test_the_network_policy_lets_the_pod_reach_its_database(helm: str, database: str, ports: list[int]) -> None:
    """Wherever the URL says that it listens; a URL in a Secret can't be read."""
    resources = render(helm, "ledger.mode=postgres", database, "networkPolicy.enabled=true")
    egress = of_kind(resources, "NetworkPolicy")["spec"]["egress"]
    assert {"ports": [{"port": port, "protocol": "TCP"} for port in ports]} in egress


def test_names_and_numbers_stay_what_they_are_in_yaml(helm: str) -> None:
    """A name of digits is no number, and a large number has no exponent, which Kubernetes takes for no integer."""
    named = ("aws.credentialsSecret=1", "web.configSecret=2", "priorityClassName=3", "ledger.sqlite.storageClassName=4")
    arguments = [argument for setting in named for argument in ("--set-string", setting)]
    arguments += ["--set", "podMonitor.enabled=true", "--set-json", "podMonitor.sampleLimit=2000000.0"]
    said = subprocess.run([helm, "template", "counts", str(CHART), *arguments], capture_output=True, check=True)
    resources = list(yaml.load_all(said.stdout, yaml.CSafeLoader))
    for resource in resources:
        if resource["apiVersion"].split("/")[0] != "monitoring.coreos.com":
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    assert of_kind(resources, "PodMonitor")["spec"]["sampleLimit"] == 2000000
    assert b"e+" not in said.stdout


def test_the_pod_of_the_recipes_fits_the_release_that_they_install(helm: str) -> None:
    """It has the release's volume, user and image, is accepted, and may run where the restricted standard holds."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    pod = yaml.safe_load(block)
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    release = of_kind(
        render(helm, "queue=orders", "image.repository=registry.example/sqs-event-exporter", release="shop"),
        "StatefulSet",
    )
    own, others = pod["spec"], release["spec"]["template"]["spec"]
    (template,) = release["spec"]["volumeClaimTemplates"]
    claim = f"{template['metadata']['name']}-{release['metadata']['name']}-0"
    assert own["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    assert own["securityContext"].items() <= others["securityContext"].items()
    assert own["containers"][0]["image"] == others["containers"][0]["image"]
    assert own["containers"][0]["securityContext"].items() <= others["containers"][0]["securityContext"].items()


def test_postgresql_is_several_replicas_that_may_be_drained_one_by_one(helm: str) -> None:
    """A Deployment with a disruption budget, spread over zones."""
    resources = render(helm, *POSTGRES, "queue=orders", "replicas=3")
    assert of_kind(resources, "Deployment")["spec"]["replicas"] == 3
    assert of_kind(resources, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    (spread,) = of_kind(resources, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"


def test_keda_scales_by_rate_times_drain_time(helm: str) -> None:
    """Its default of 5 messages a replica would start a hundred replicas for a second of work."""
    resources = render(helm, *POSTGRES, f"queue={QUEUE_URL}", "keda.enabled=true", "keda.messagesPerSecond=2000")
    scaled = of_kind(resources, "ScaledObject")["spec"]
    assert scaled["minReplicaCount"] == 1
    assert scaled["triggers"][0]["metadata"]["queueLength"] == str(2000 * 60)
    assert scaled["triggers"][0]["metadata"]["awsRegion"] == "eu-west-1"
    assert "replicas" not in of_kind(resources, "Deployment")["spec"]


@pytest.mark.parametrize("host", HOSTS)
def test_keda_asks_in_the_region_of_the_queue(helm: str, host: str) -> None:
    """As the exporter does: an AWS URL says its region, whatever `aws.region` is for other queues."""
    url = f"https://{host}/123456789012/orders"
    resources = render(helm, *POSTGRES, f"queue={url}", "keda.enabled=true", "aws.region=eu-north-1")
    (trigger,) = of_kind(resources, "ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["awsRegion"] == (region_of(url) or "eu-north-1")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("ledger.mode=postgres",), "set ledger.postgres.url, such as postgresql://exporter@db.example:5432/exporter"),
        (("ledger.mode=redis",), "ledger"),
        (("keda.enabled=true", f"queue={QUEUE_URL}"), "keda.enabled needs ledger.mode postgres"),
        ((*POSTGRES, "keda.enabled=true", "queue=shop-*"), "has the prefix"),
        ((*POSTGRES, "keda.enabled=true", "queue=orders"), "needs the URLs of the queues"),
        ((*POSTGRES, "keda.enabled=true", "queue=http://sqs:9324/1/orders"), "set aws.region"),
        ((*POSTGRES, "keda.enabled=true", f"queue={QUEUE_URL}", "keda.minReplicas=0"), "minReplicas"),
        (
            ("ledger.mode=postgres", "ledger.postgres.url=postgresql://u:p@db.example/x"),
            "ledger.postgres.passwordSecret",
        ),
        (("ledger.mode=postgres", "ledger.postgres.url=postgresql://db.example/x?password=p"), "urlSecret.name"),
        (("ledger.name=" + "a" * 60, "ledger.cluster=eu-west-1"), "longer than 63 characters"),
        (("ledgr.mode=sqlite",), "ledgr"),
    ],
)
def test_what_can_not_work_is_refused_with_a_sentence(helm: str, settings: tuple[str, ...], sentence: str) -> None:
    """Before anything is installed."""
    assert sentence in refusal(helm, *settings)


def test_releases_side_by_side_share_no_name(helm: str) -> None:
    """Neither a resource's nor the ledger's, so that their counts don't mix."""
    one, other = render(helm, "queue=a", release="one"), render(helm, "queue=b", release="other")
    assert not {(r["kind"], r["metadata"]["name"]) for r in one} & {(r["kind"], r["metadata"]["name"]) for r in other}
    assert "name: shop-one" in of_kind(one, "ConfigMap")["data"]["settings.yml"]


def test_the_pod_meets_the_restricted_profile(helm: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    pod = of_kind(render(helm, "queue=orders"), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_what_is_generated_is_up_to_date() -> None:
    """README, schema, alerts and dashboard of the chart are those of the repository: `make chart` makes them anew."""
    generated = runpy.run_path(str(ROOT / "charts" / "generate.py"))["generated"]()
    stale = [file.name for file, content in generated.items() if file.read_text(encoding="utf-8") != content]
    assert stale == []


def test_every_value_of_the_templates_is_described() -> None:
    """No template uses a value that the README does not name."""
    described = (CHART / "README.md").read_text(encoding="utf-8")
    used = {
        match
        for template in (CHART / "templates").iterdir()
        for match in re.findall(r"\.Values\.([A-Za-z.]+)", template.read_text(encoding="utf-8"))
    }
    undescribed = [name for name in used if not any(f"`{name[:end]}" in described for end in range(len(name), 2, -1))]
    assert undescribed == []


@contextmanager
def showing(text: str) -> Iterator[int]:
    """Serve one exposition on a port of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_pod_that_is_replaced_leaves_the_business_series_as_they_are(helm: str, tmp_path: Path) -> None:
    """A real Prometheus with the PodMonitor's relabelling, its targets labelled as prometheus-operator labels them."""
    monitor = of_kind(render(helm, "queue=orders", "podMonitor.enabled=true"), "PodMonitor")
    rules = monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"]
    snake = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    text = 'sqs_events_total{{ledger="shop",queue="orders",type="purchase"}} {}\nprocess_start_time_seconds 1\n'
    with showing(text.format(5)) as before, showing(text.format(7)) as after:
        pods = {f"127.0.0.1:{port}": name for port, name in ((before, "shop-0"), (after, "shop-1"))}
        scrape_config = {
            "job_name": "shop/shop",
            "metric_relabel_configs": [{snake.get(key, key): value for key, value in rule.items()} for rule in rules],
            "static_configs": [
                {
                    "targets": [address],
                    "labels": {"namespace": "shop", "pod": pod, "node": f"node of {pod}", "container": "exporter"},
                }
                for address, pod in pods.items()
            ],
        }
        with prometheus(tmp_path, scrape_config=scrape_config) as server:
            server.wait_until("count(process_start_time_seconds{pod=~'shop-.'})", 2)
            server.wait_until("count(count by (pod, node, instance) (sqs_events_total))", 1)
            assert server.query("count by (pod) (sqs_events_total)").keys() == {"{}"}
            assert server.query("count by (instance) (sqs_events_total)").keys() == {"shop"}
