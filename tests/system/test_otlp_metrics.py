"""What is pushed is what the ledger holds, over HTTP and gRPC, whatever became of the process before."""

from __future__ import annotations

from pathlib import Path

import pytest
from exporter_process import ExporterProcess
from fake_sqs import Account, FakeSqs
from opentelemetry.semconv._incubating.attributes import (
    aws_attributes,
    cloud_attributes,
    messaging_attributes,
    process_attributes,
    vcs_attributes,
)
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes, service_attributes
from otlp_receiver import OtlpReceiver, Pushed

from exporter.telemetry.otlp import names

SOURCES = (
    aws_attributes,
    cloud_attributes,
    messaging_attributes,
    process_attributes,
    vcs_attributes,
    messaging_metrics,
    error_attributes,
    server_attributes,
    service_attributes,
)
CONVENTIONS = {value for source in SOURCES for value in vars(source).values() if isinstance(value, str)}
DOCS = Path(__file__).resolve().parents[2] / "docs"
AT_ONCE = ("--shutdown.timeout", "0s")
"""Nobody waits for an empty long poll."""
EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'


def counted(push: Pushed) -> float:
    """Return how many events were counted, of all types."""
    return sum(value for value, _ in push.points("sqs.events", names.EVENT_TYPE).values())


def totals(push: Pushed, name: str) -> dict[str, float]:
    """Return a sum by event type, of those that have events."""
    counts = push.points("sqs.events", names.EVENT_TYPE)
    return {kind: value for kind, (value, _) in push.points(name, names.EVENT_TYPE).items() if counts[kind][0]}


def ledger_of(exporter: ExporterProcess) -> str:
    """Return the ledger's name, as /metrics has it."""
    (name,) = exporter.scrape().by("sqs_exporter_ledger_max_messages", "ledger")
    return name


def starts(push: Pushed) -> dict[str, int]:
    """Return when the count of each type began."""
    return {event_type: start for event_type, (_, start) in push.points("sqs.events", names.EVENT_TYPE).items()}


def agrees(push: Pushed, account: Account) -> bool:
    """Assert that counts, sums and the accounting identity are those of what was sent; returns True."""
    assert totals(push, "sqs.events") == {name: sent.count for name, sent in account.types.items()}
    assert totals(push, "sqs.event.value") == {name: sent.value for name, sent in account.types.items()}
    assert totals(push, "sqs.event.negative_value") == {name: sent.negative for name, sent in account.types.items()}
    rejected, released, received, duplicate = (
        sum(value for value, _ in push.points(f"sqs.exporter.messages.{name}", label).values())
        for name, label in (
            ("rejected", names.ERROR_TYPE),
            ("released", names.ERROR_TYPE),
            ("received", names.DESTINATION),
            ("duplicate", names.DESTINATION),
        )
    )
    assert rejected == account.rejected
    assert received == counted(push) + duplicate + rejected + released
    return True


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_a_killed_process_counted_is_pushed_by_the_next_with_the_same_start_times(
    tmp_path: Path, protocol: str
) -> None:
    """Killed before any push after its first, it leaves nothing out: the totals are the ledger's, exactly."""
    with OtlpReceiver(protocol) as receiver, FakeSqs() as sqs:
        rarely = receiver.environment | {"OTEL_METRIC_EXPORT_INTERVAL": "600000"}
        with ExporterProcess(sqs.environment | rarely, tmp_path / "ledger.db", *AT_ONCE) as exporter:
            assert counted(receiver.wait_for_push()) == 0
            sqs.load(300, seed=5, invalid_fraction=0.1)
            exporter.wait_for(lambda scrape: scrape.counted + scrape.rejected == 300)
            exporter.kill()
            assert all(counted(push) == 0 for push in receiver.pushed)

            exporter.restart()
            first = receiver.wait_for_push(lambda push: counted(push) > 0)
            assert agrees(first, sqs.account())
            sqs.load(300, seed=6)
            exporter.wait_for(lambda scrape: scrape.counted + scrape.rejected == 600)
            assert exporter.terminate() == 0
            last = receiver.pushed[-1]
            assert agrees(last, sqs.account())
            assert starts(last) == starts(first)
            assert all(
                0 < start < first.metrics["sqs.events"].sum.data_points[0].time_unix_nano
                for start in starts(first).values()
            )
            assert {push.resource[names.SERVICE_INSTANCE_ID] for push in receiver.pushed} == {
                first.resource[names.SERVICE_INSTANCE_ID]
            }
            assert all(
                metric.sum.aggregation_temporality == 2 and metric.sum.is_monotonic
                for metric in last.metrics.values()
                if metric.HasField("sum")
            )


def test_names_units_and_attributes_are_those_of_the_conventions(tmp_path: Path) -> None:
    """Every name is in the conventions' own list, or begins with sqs as the exporter's own do."""
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        sqs.load(50, invalid_fraction=0.2)
        sqs.fault("error", "ReceiveMessage", code="InternalFailure", status=500, times=1)
        with ExporterProcess(sqs.environment | receiver.environment, tmp_path / "ledger.db", *AT_ONCE) as exporter:
            exporter.wait_for(lambda scrape: scrape.received == 50)
            sqs.wait_until(lambda account: account.deleted == 50)
            assert exporter.terminate() == 0
    push = receiver.pushed[-1]
    assert {name for name in push.metrics if not name.startswith("sqs.")} == {
        messaging_metrics.MESSAGING_CLIENT_CONSUMED_MESSAGES,
        messaging_metrics.MESSAGING_CLIENT_OPERATION_DURATION,
        messaging_metrics.MESSAGING_PROCESS_DURATION,
    }
    assert {name for name in push.attribute_names() if not name.startswith("sqs.")} <= CONVENTIONS
    consumed = push.metrics[names.CONSUMED_MESSAGES]
    assert (consumed.unit, sum(point.as_int for point in consumed.sum.data_points)) == ("{message}", 50)
    durations = push.metrics[names.OPERATION_DURATION]
    assert durations.unit == push.metrics[names.PROCESS_DURATION].unit == "s"
    operations = {
        tuple(
            pair.value.string_value for pair in point.attributes if pair.key in {names.OPERATION_NAME, names.ERROR_TYPE}
        )
        for point in durations.histogram.data_points
    }
    assert operations == {("receive",), ("receive", "server"), ("delete",)}
    assert push.resource[names.SERVICE_NAME] == "sqs-event-exporter"
    assert push.resources["sqs.exporter.ready"] == push.resources[names.OPERATION_DURATION]
    ids = [push.resources[name][names.SERVICE_INSTANCE_ID] for name in ("sqs.events", "sqs.exporter.ready")]
    assert ids[0] != ids[1]
    guide = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("opentelemetry.md", "metrics.md"))
    assert not [name for name in push.metrics.keys() | push.attribute_names() if f"`{name}`" not in guide]
    assert {names.SERVICE_NAME, names.SERVICE_VERSION, names.SERVICE_INSTANCE_ID} <= push.resource.keys() & CONVENTIONS


def test_the_constants_are_the_conventions() -> None:
    """The copies are true; their Python package moves names about between versions."""
    own = {names.SCHEMA_URL, names.AWS_SQS}
    values = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)} - own
    copied = {value for value in values if not value.startswith("sqs.")}
    assert copied <= CONVENTIONS
    assert messaging_attributes.MessagingSystemValues.AWS_SQS.value == names.AWS_SQS
    assert set(names.OPERATION_TYPES.values()) <= {
        kind.value for kind in messaging_attributes.MessagingOperationTypeValues
    }


def test_the_standard_variables_are_honoured(tmp_path: Path) -> None:
    """A signal's own endpoint is taken as it is; headers, compression, resource and sampler, too."""
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        sqs.send([EVENT] * 3)
        variables = {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{receiver.port}/otlp/metrics",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{receiver.port}/otlp/traces",
            "OTEL_TRACES_SAMPLER": "always_off",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-scope-orgid=shop,authorization=Basic%20c2VjcmV0",
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "Cumulative",
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "",
            "OTEL_SPAN_LINK_COUNT_LIMIT": "",
            "OTEL_SERVICE_NAME": "counting",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=hidden,service.instance.id=a-1",
        }
        with ExporterProcess(sqs.environment | variables, tmp_path / "ledger.db", *AT_ONCE) as exporter:
            push = receiver.wait_for_push(lambda push: counted(push) == 3 and names.PROCESS_DURATION in push.metrics)
            ledger = ledger_of(exporter)
            exporter.terminate()
    assert receiver.paths == {"/otlp/metrics"}
    assert receiver.headers[0]["x-scope-orgid"] == "shop"
    assert receiver.headers[0]["authorization"] == "Basic c2VjcmV0"
    assert receiver.headers[0]["content-encoding"] == "gzip"
    assert push.resource["deployment.environment.name"] == "test"
    health = push.resources["sqs.exporter.ready"]
    assert (health[names.SERVICE_NAME], health[names.SERVICE_INSTANCE_ID]) == ("counting", "a-1")
    assert push.resource[names.SERVICE_NAME] == "counting"
    assert push.resource[names.SERVICE_INSTANCE_ID] == ledger
    assert push.metrics[names.CONSUMED_MESSAGES].sum.aggregation_temporality == 2
    assert push.metrics[names.PROCESS_DURATION].histogram.data_points[0].count > 0
    assert not receiver.spans
    assert not any("c2VjcmV0" in line for line in exporter.stderr)
