"""The image and the compose stack: what can be said of them without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore
import pytest
import yaml

from exporter.producer.sample import TYPES
from exporter.settings import LedgerSettings, Settings
from exporter.settings.setting import VARIABLE_PREFIX, setting_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STEPS = re.findall(r"^([A-Z]+) (.+?)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
STAGES = DOCKERFILE.split("\nFROM ")[1:]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "prometheus.yml").read_text())
PINNED = ("docker-compose.yml", "docker-compose.replicas.yml", "Dockerfile")


def step(instruction: str) -> list[str]:
    """Return what stands after the instruction, for each time it is there."""
    return [text for name, text in STEPS if name == instruction]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Serve one status to every request; gives the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/-/healthy"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_dependencies_are_installed_by_hash_and_before_the_exporter_is_copied() -> None:
    """A change of the exporter installs no dependency again, and no dependency comes unverified."""
    for install in re.findall(r"pip [^&]*install[^&]*", " ".join(step("RUN"))):
        assert "--require-hashes" in install or ("--no-index" in install and "--no-deps" in install)
    dependencies, project, final = STAGES
    assert "--require-hashes" in dependencies
    assert "exporter/" not in dependencies
    assert "COPY exporter/ exporter/" in project
    assert final.index("--from=dependencies") < final.index("--from=project")


def test_the_image_runs_as_a_numbered_user_and_takes_signals_itself() -> None:
    """Kubernetes can see that the user is not root, and PID 1 is the exporter, not a shell."""
    (user,) = step("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert step("ENTRYPOINT") == ['["sqs-event-exporter"]']
    assert f"--chown={user} /data" in DOCKERFILE
    assert step("VOLUME") == ["/data"]


def test_the_health_check_needs_nothing_that_the_image_lacks() -> None:
    """The image's own check, run as it stands, tells a healthy exporter from one that is not, and from none."""
    (check,) = step("HEALTHCHECK")
    command: list[str] = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-ISc"]
    for status, healthy in ((200, True), (503, False)):
        with answering(status) as port:
            program = command[2].replace("9797", str(port))
            assert (subprocess.run([sys.executable, "-ISc", program], check=False).returncode == 0) is healthy
    done = subprocess.run([sys.executable, "-ISc", program], check=False, capture_output=True)
    assert done.returncode != 0


def test_the_image_says_what_it_is() -> None:
    """The labels are OCI's, and the version is the project's."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE
    for key in ("title", "description", "licenses", "source", "documentation", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in DOCKERFILE


def test_the_image_keeps_every_description_that_credentials_need() -> None:
    """Whatever of AWS's services botocore asks for credentials is not among what the image leaves out."""
    kept = set(re.findall(r"! -name ([a-z-]+)", DOCKERFILE))
    sources = Path(botocore.__file__).parent
    asked = {
        service
        for name in ("credentials.py", "tokens.py")
        for service in re.findall(
            r"""(?:create_client|client_creator)\(\s*['"]([a-z0-9-]+)""", (sources / name).read_text()
        )
    }
    assert {"sts", "sso"} <= asked
    assert asked | {"sqs"} <= kept


def test_the_build_context_is_small_and_holds_what_the_build_copies() -> None:
    """Only what is listed goes to the builder: below 2 MB."""
    first, *others = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in {"", "#"}]
    assert first == "*"
    admitted = [ROOT / line.removeprefix("!") for line in others if line.startswith("!")]
    files = [file for path in admitted for file in ([path] if path.is_file() else path.rglob("*.*"))]
    assert sum(file.stat().st_size for file in files if "__pycache__" not in file.parts) < 2_000_000
    for copied in step("COPY"):
        if not copied.startswith("--from"):
            for source in copied.split()[:-1]:
                assert any((ROOT / source).is_relative_to(path) for path in admitted)


def test_what_the_image_runs_is_compiled_beforehand() -> None:
    """A restart compiles nothing: dependencies, standard library and exporter have bytecode that is never checked."""
    compiled = re.findall(r"-m compileall -q --invalidation-mode unchecked-hash", DOCKERFILE)
    assert len(compiled) == 3
    assert "COPY --from=dependencies /bytecode /" in DOCKERFILE


def test_base_images_have_an_exact_version() -> None:
    """What is built today is built tomorrow: version and distribution of the base are named."""
    assert step("ARG")[0].startswith("BASE_IMAGE=python:")
    assert re.fullmatch(r"BASE_IMAGE=python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", step("ARG")[0])
    assert set(step("FROM")) <= {"${BASE_IMAGE} AS dependencies", "dependencies AS project", "${BASE_IMAGE}"}


def test_make_pin_images_adds_the_digest_of_each_tag(tmp_path: Path) -> None:
    """Each image of the compose files and the Dockerfile gets what its registry says, again when that changes."""
    for name in (*PINNED, "compose/pin_images.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    docker = tmp_path / "docker"
    for digit in "ab":
        docker.write_text(f"#!/bin/sh\necho sha256:{digit * 64}\n")
        docker.chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        program = [sys.executable, str(tmp_path / "compose" / "pin_images.py")]
        subprocess.run(program, check=True, capture_output=True, env=environment)
        services = yaml.safe_load((tmp_path / "docker-compose.yml").read_text())["services"]
        for name, service in services.items():
            plain = SERVICES[name]["image"].partition("@")[0]
            assert service["image"] == (plain if plain.endswith(":local") else f"{plain}@sha256:{digit * 64}")
        assert f"-slim-trixie@sha256:{digit * 64}\n" in (tmp_path / "Dockerfile").read_text()
        replicas = (tmp_path / "docker-compose.replicas.yml").read_text()
        assert re.search(rf"image: postgres:[\d.]+@sha256:{digit * 64}\n", replicas)


def test_make_pin_images_changes_nothing_where_a_registry_is_silent(tmp_path: Path) -> None:
    """Without a network there is a sentence and no half-pinned file."""
    for name in (*PINNED, "compose/pin_images.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho no such host >&2\nexit 1\n")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = [sys.executable, str(tmp_path / "compose" / "pin_images.py")]
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("its registry does not say which digest it has (no such host).")
    for name in PINNED:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_hardened_bounded_and_watched(name: str) -> None:
    """Nothing runs with more rights than it needs, listens beyond this machine, or fills the disk with logs."""
    service = SERVICES[name]
    image = service["image"].partition("@")[0]
    assert re.fullmatch(r"[\w./-]+:(v?\d+\.\d+\.\d+|local)", image)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert service["cpus"] <= 1  # Docker refuses a limit that is more than the machine has
    assert service["healthcheck"].get("disable") is not True  # `docker compose up --wait` would fail
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-(\d+)\}:\1", port)


def test_services_start_when_what_they_need_is_healthy() -> None:
    """The whole stack comes up in one go, in order."""
    needs = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert needs == {
        "sqs": set(),
        "exporter": {"sqs"},
        "producer": {"exporter"},
        "prometheus": {"exporter"},
        "grafana": {"prometheus"},
    }
    for service in SERVICES.values():
        for need in service.get("depends_on", {}).values():
            assert need == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", ["exporter", "producer"])
def test_a_signal_ends_ours_however_soon_it_comes(name: str) -> None:
    """Process 1 is Docker's own: Python takes a moment until it handles a signal, and as process 1 would ignore it."""
    assert SERVICES[name]["init"] is True


def test_what_is_mounted_exists_and_can_not_be_written() -> None:
    """Configuration comes from the repository; what is kept is in named volumes."""
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source, _, *mode = mount.split(":")
            if source.startswith("./"):
                assert (ROOT / source).exists()
                assert mode == ["ro"]
            else:
                assert source in COMPOSE["volumes"]


def test_counts_are_kept_where_they_survive_the_container() -> None:
    """The default path of the ledger is in a volume, and no variable of the image stands in the way of --ledger.url."""
    assert step("WORKDIR")[-1] == "/data"
    assert str(LedgerSettings().path) == "ledger.db"
    assert "EXPORTER_LEDGER" not in DOCKERFILE
    assert "ledger:/data" in SERVICES["exporter"]["volumes"]
    (job,) = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "sqs-event-exporter"]
    assert job["static_configs"] == [{"targets": ["exporter:9797"]}]


def test_an_exporter_that_grows_too_large_fails_its_scrape_instead_of_prometheus() -> None:
    """Samples, bytes and labels of a scrape are limited, and a queue at its caps is within the limits."""
    (job,) = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "sqs-event-exporter"]
    assert job["sample_limit"] >= (1000 + 201) * 3 + 201 + 1000
    assert job["label_value_length_limit"] >= 128 * 4
    assert {"body_size_limit", "label_limit", "label_name_length_limit"} <= set(job)


def test_every_variable_of_the_stack_is_one_that_the_exporter_knows() -> None:
    """The exporter refuses a variable of its prefix that it does not know; the image must not start like that."""
    known = {field.setting.variable for field in setting_fields(Settings)}
    used = set(re.findall(r"\b(EXPORTER_\w+)=", DOCKERFILE)) | {
        variable
        for name in ("exporter", "producer")
        for variable in SERVICES[name]["environment"]
        if variable.startswith(VARIABLE_PREFIX)
    }
    assert used <= known


def test_the_stack_speaks_of_one_queue_with_the_types_that_the_producer_sends() -> None:
    """ElasticMQ makes the queue that exporter and producer use, with a dead-letter queue."""
    queues = (ROOT / "compose" / "elasticmq.conf").read_text()
    for name in ("exporter", "producer"):
        assert re.search(rf"^  {SERVICES[name]['environment']['SQS_QUEUE_NAME']} {{", queues, re.MULTILINE)
    dead_letters = re.search(r'name = "([\w-]+)"', queues)
    assert dead_letters
    assert re.search(rf"^  {dead_letters[1]} {{", queues, re.MULTILINE)
    assert SERVICES["exporter"]["environment"]["EXPORTER_EVENTS__TYPES"].split(",") == list(TYPES)


def test_grafana_is_provisioned_with_the_data_source_and_dashboard_that_are_mounted() -> None:
    """The dashboard is there at the first look, and Grafana is not its editor."""
    provisioning = ROOT / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "sqs-event-exporter.yml").read_text())["providers"]
    assert source["uid"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]
    assert provider["allowUiUpdates"] is False
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda path: path.stem)
def test_every_job_of_a_workflow_has_the_repository_that_its_steps_need(workflow: Path) -> None:
    """Rights of a job's own take the place of all others; the tests skip an upgrade whose commit is not fetched."""
    described = yaml.safe_load(workflow.read_text())
    for job in described["jobs"].values():
        (checkout,) = [one["with"] for one in job["steps"] if one.get("uses", "").startswith("actions/checkout@")]
        assert {**described, **job}["permissions"].get("contents") in {"read", "write"}
        if any(".ci/run" in one.get("run", "") for one in job["steps"]):
            assert checkout.get("fetch-depth") == 0
