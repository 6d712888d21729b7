"""OpenTelemetry in trouble, or off, costs no count and holds nobody up."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from otlp_receiver import OtlpReceiver

from exporter.telemetry import otlp
from exporter.telemetry.otlp import names

PACKAGE = Path(otlp.__file__).resolve().parent.parent
UNREACHABLE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("protocol", "trouble"),
    [
        ("http/protobuf", "silent"),
        ("http/protobuf", "unreachable"),
        ("http/protobuf", "unwilling"),
        ("grpc", "silent"),
        ("grpc", "unreachable"),
    ],
)
def test_a_collector_in_trouble_costs_no_count_and_no_flood_and_the_end_comes_in_time(
    tmp_path: Path, protocol: str, trouble: str
) -> None:
    """Whether it takes requests and answers none, is not there, or answers 503: everything is counted and deleted."""
    with ExitStack() as stack:
        receiver = stack.enter_context(OtlpReceiver(protocol, silent=trouble == "silent"))
        receiver.status = 503 if trouble == "unwilling" else 200
        sqs = stack.enter_context(FakeSqs())
        sqs.load(5_000, seed=2)
        variables = receiver.environment | (UNREACHABLE if trouble == "unreachable" else {})
        at_once = ("--shutdown.timeout", "0s")
        exporter = stack.enter_context(ExporterProcess(sqs.environment | variables, tmp_path / "ledger.db", *at_once))
        scrape = exporter.wait_for(lambda scrape: scrape.counted == 5_000)
        account = sqs.wait_until(lambda account: account.deleted == 5_000)
        assert scrape.agrees_with(account)
        if trouble != "unreachable":
            receiver.wait_for(lambda: receiver.requests >= 2)
        started = time.monotonic()
        assert exporter.terminate() == 0
        assert time.monotonic() - started < 2.5
        assert not any("Traceback" in line for line in exporter.stderr)
        told = [line for line in exporter.log if line.get("logger", "").startswith("opentelemetry")]
        assert len(told) <= 4
        assert len(exporter.stderr) < 20


def test_a_collector_that_comes_back_gets_all_that_it_missed(tmp_path: Path) -> None:
    """Totals need no memory of failed pushes."""
    with OtlpReceiver(status=404) as receiver, FakeSqs() as sqs:
        sqs.load(200, seed=3)
        with ExporterProcess(sqs.environment | receiver.environment, tmp_path / "ledger.db") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 200)
            receiver.wait_for(lambda: receiver.requests >= 3)
            assert not receiver.pushed
            receiver.status = 200
            push = receiver.wait_for_push(lambda push: bool(push.points("sqs.events", names.EVENT_TYPE)))
            counts = push.points("sqs.events", names.EVENT_TYPE)
            assert {name: count for name, (count, _) in counts.items() if count} == {
                name: totals.count for name, totals in sqs.account().types.items()
            }


def test_pushes_that_fail_are_counted_by_signal(tmp_path: Path) -> None:
    """An alert sees what the collector refuses; what is not pushed at all has no series."""
    failures = "sqs_exporter_otlp_push_failures_total"
    with OtlpReceiver(status=404) as receiver, FakeSqs() as sqs:
        sqs.load(20, seed=3)
        with ExporterProcess(sqs.environment | receiver.environment, tmp_path / "ledger.db") as exporter:
            exporter.wait_for(lambda scrape: all(scrape.total(failures, signal=s) >= 1 for s in ("metrics", "traces")))
        only_metrics = receiver.environment | {"OTEL_TRACES_EXPORTER": "none"}
        with ExporterProcess(sqs.environment | only_metrics, tmp_path / "ledger.db") as exporter:
            assert exporter.scrape().by(failures, "signal").keys() == {"metrics"}
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
            assert not exporter.scrape().by(failures, "signal")


def test_nothing_is_loaded_and_nothing_pushed_where_nothing_is_asked_for(tmp_path: Path) -> None:
    """A run without OpenTelemetry's variables does not import it, nor does one that has it switched off."""
    program = (
        "import sys; from exporter.cli.main import main; code = main(sys.argv[1:]);"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'grpc', 'google')]);"
        "sys.exit(code)"
    )
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        sqs.load(20)
        arguments = ["--queue", "events", "--until-empty", "--ledger.path", str(tmp_path / "ledger.db")]
        arguments += ["--web.listen-address", "127.0.0.1:0", "--summary.interval", "0"]
        for variables in ({"OTEL_SERVICE_NAME": "x"}, receiver.environment | {"OTEL_SDK_DISABLED": "true"}):
            done = subprocess.run(
                [sys.executable, "-c", program, "run", *arguments],
                env=sqs.environment | variables,
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
            assert done.stdout.splitlines() == ["[]"]
        assert not receiver.requests


def test_a_wrong_variable_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    """Exit code 2, no traceback, and no ledger is made."""
    with FakeSqs() as sqs:
        variables = UNREACHABLE | {"OTEL_TRACES_EXPORTER": "jaeger"}
        ledger = tmp_path / "ledger.db"
        with ExporterProcess(sqs.environment | variables, ledger, start=False) as exporter:
            exporter.launch()
            assert exporter.wait() == 2
        (line,) = exporter.stderr
        assert line.startswith(
            "sqs-event-exporter: the environment variable OTEL_TRACES_EXPORTER is 'jaeger': use otlp"
        )
        assert not ledger.exists()


def test_opentelemetry_is_imported_by_its_package_alone() -> None:
    """And there, `environment` does without, because it is imported where OpenTelemetry is off, too."""
    allowed = {path for path in (PACKAGE / "otlp").glob("*.py") if path.stem not in {"__init__", "environment"}}
    for path in set(PACKAGE.rglob("*.py")) - allowed:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in {"opentelemetry", "grpc"} for name in imported), path
