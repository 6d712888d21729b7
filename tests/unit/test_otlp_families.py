"""What is pushed over OTLP is what /metrics shows: every family and number, under names that Prometheus turns back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import prometheus_client.metrics
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from test_metrics import LABELLED, full_name, ours, whole_registry

from exporter.ledger import SeriesTotals
from exporter.telemetry.metrics import Health
from exporter.telemetry.metrics import names as metric_names
from exporter.telemetry.otlp import names
from exporter.telemetry.otlp.families import ATTRIBUTES, metrics_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.metrics.export import Metric

NOW_NANO = 1_800_000_000 * 10**9
LABELS = {attribute: label for label, attribute in ATTRIBUTES.items()}
SUFFIXES = {"s": "_seconds", "By": "_bytes"}


def registry() -> CollectorRegistry:
    """Return all that one queue with two labels shows."""
    return whole_registry(LABELLED, label_names=LABELLED.label_names)


def converted() -> dict[str, Metric]:
    """Return all that is pushed, by name."""
    kept, health = metrics_of(registry().collect(), NOW_NANO)
    assert not {metric.name for metric in kept} & {metric.name for metric in health}
    return {metric.name: metric for metric in kept + health}


def in_prometheus(metric: Metric) -> str:
    """Return the name that Prometheus gives it.

    https://prometheus.io/docs/guides/opentelemetry/
    """
    name = metric.name.replace(".", "_") + SUFFIXES.get(metric.unit or "", "")
    return f"{name}_total" if getattr(metric.data, "is_monotonic", False) else name


def labels_of(attributes: Any) -> frozenset[tuple[str, str]]:  # noqa: ANN401 - the SDK's attributes
    """Return attributes as the labels that they came from."""
    labels = {
        LABELS.get(name, name.removeprefix(names.EVENT_LABEL_PREFIX)): value
        for name, value in attributes.items()
        if name != names.SYSTEM
    }
    return frozenset(labels.items())


def test_every_family_of_ours_is_pushed_under_a_name_that_prometheus_turns_back() -> None:
    """Nothing that /metrics says is left out, whatever kind it is."""
    assert {in_prometheus(metric) for metric in converted().values()} == set(ours_of(registry()))
    assert {name.name for name in metric_names.ALL.values()} == set(ours_of(registry()))


def ours_of(collected: CollectorRegistry) -> dict[str, Any]:
    """Return our own families by their full name."""
    return ours({full_name(family): family for family in collected.collect()})


def test_every_number_is_the_same() -> None:
    """Counters and gauges are compared series by series; an empty label is no attribute."""
    families = ours_of(registry())
    compared = 0
    for metric in converted().values():
        family = families[in_prometheus(metric)]
        if family.type == "histogram":
            continue
        points: Sequence[Any] = metric.data.data_points
        pushed = {labels_of(point.attributes): point.value for point in points}
        shown = {
            frozenset((label, value) for label, value in sample.labels.items() if value and label != "ledger"): (
                sample.value
            )
            for sample in family.samples
            if not sample.name.endswith("_created")
        }
        if in_prometheus(metric) != "sqs_exporter_ledger_commit_started_timestamp_seconds":
            assert pushed == shown, metric.name
        compared += len(shown)
    assert compared > 50


def test_a_label_of_events_that_is_called_like_one_of_ours_is_the_event_s() -> None:
    """An order's region is no cloud's, and the reason of a refund no error."""
    snapshot = replace(
        LABELLED,
        label_names=("region", "reason"),
        series={("refund", "Bavaria", "broken"): SeriesTotals(1, 0, 0, None, 1_600_000_100.0)},
    )
    kept, _ = metrics_of(whole_registry(snapshot, label_names=snapshot.label_names).collect(), NOW_NANO)
    (point,) = next(metric for metric in kept if metric.name == "sqs.events").data.data_points
    assert point.attributes == {
        names.SYSTEM: names.AWS_SQS,
        names.DESTINATION: "orders",
        names.EVENT_TYPE: "refund",
        "sqs.event.region": "Bavaria",
        "sqs.event.reason": "broken",
    }


def test_all_is_pushed_where_the_library_s_own_variable_leaves_creation_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PROMETHEUS_DISABLE_CREATED_SERIES is about the text; here they are the start times of sums."""
    monkeypatch.setattr(prometheus_client.metrics, "_use_created", False)
    assert {in_prometheus(metric) for metric in converted().values()} == set(ours_of(registry()))


def test_sums_begin_when_the_ledger_says_and_those_of_health_with_the_process() -> None:
    """A restart is no reset where the number survives it."""
    metrics = converted()
    starts = {point.start_time_unix_nano for point in metrics["sqs.exporter.messages.received"].data.data_points}
    assert starts == {1_600_000_000 * 10**9}
    (point, *_) = metrics["sqs.exporter.messages.deleted"].data.data_points
    assert abs(getattr(point, "start_time_unix_nano", 0) / 1e9 - time.time()) < 60


@pytest.mark.parametrize("observed", [[], [0.05, 1.0, 1.2, 10**6]])
def test_a_histogram_has_the_counts_of_its_buckets_and_not_the_running_totals(observed: list[float]) -> None:
    """Prometheus' buckets include those below, OpenTelemetry's don't."""
    collected = CollectorRegistry()
    health = Health(collected)
    health.take_up("orders")
    health.observe_event_ages("orders", observed)
    _, metrics = metrics_of(collected.collect(), NOW_NANO)
    (point,) = next(metric for metric in metrics if metric.name == "sqs.event.age").data.data_points
    found: Any = point
    assert (found.count, found.sum) == (len(observed), sum(observed))
    assert list(found.explicit_bounds) == list(metric_names.AGE_BUCKETS)
    expected = [0] * (len(metric_names.AGE_BUCKETS) + 1)
    for at in (0, 2, 3, -1) if observed else ():
        expected[at] += 1
    assert list(found.bucket_counts) == expected


def test_what_the_ledger_keeps_and_the_process_s_health_are_told_apart() -> None:
    """Two resources: the ledger's goes on wherever it is pushed from, the process's ends with it."""
    kept, health = metrics_of(registry().collect(), NOW_NANO)
    assert {"sqs.events", "sqs.queue.messages", "sqs.exporter.ledger.max_messages"} <= {metric.name for metric in kept}
    assert {"sqs.exporter.ready", "sqs.message.age", "sqs.exporter.requests"} <= {metric.name for metric in health}
