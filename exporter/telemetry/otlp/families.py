"""What /metrics shows as OpenTelemetry metric data: the same families, converted at each push.

Converted by hand, because the SDK's instruments start their sums when the process starts: a total of the ledger's whole
life under such a start time would be counted anew at each restart. These sums start when the ledger says they did.
https://opentelemetry.io/docs/specs/otel/metrics/data-model/#sums

Where Prometheus takes them in, the names come out as those of /metrics.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from exporter.telemetry.metrics import names as metric_names
from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import Metric as Family
    from prometheus_client.samples import Sample

    from exporter.telemetry.metrics.names import Name

NANO = 10**9

ATTRIBUTES = {
    "queue": names.DESTINATION,
    "type": names.EVENT_TYPE,
    "reason": names.ERROR_TYPE,
    "operation": names.OPERATION_NAME,
    "state": names.QUEUE_STATE,
    "dead_letter_queue": names.DEAD_LETTER_QUEUE,
    "limit": names.LIMIT,
    "signal": names.SIGNAL,
    "account": names.CLOUD_ACCOUNT,
    "region": names.CLOUD_REGION,
    "version": names.SERVICE_VERSION,
    "revision": names.REVISION,
    "python": names.RUNTIME_VERSION,
}
"""What a label of ours is called here. `ledger` is left out: it is the resource's."""

Attributes = dict[str, str]
Key = tuple[tuple[str, str], ...]


def metrics_of(families: Iterable[Family], now_nano: int) -> tuple[list[Metric], list[Metric]]:
    """Return what the ledger keeps (all that has the label `ledger`), and the process's health.

    `now_nano` is Unix time in 1e-9 s. Families that are not our own, `process_*` and `python_info`, are left out.
    """
    kept: list[Metric] = []
    health: list[Metric] = []
    for family in families:
        name = metric_names.ALL.get(f"{family.name}_total" if family.type == "counter" else family.name)
        if name is not None and family.samples:
            (kept if "ledger" in name.labels else health).append(_metric(name, family.samples, now_nano))
    return kept, health


def _metric(name: Name, samples: Iterable[Sample], now_nano: int) -> Metric:
    if name.kind == "gauge":
        gauges = [NumberDataPoint(_attributes(name, sample.labels), 0, now_nano, sample.value) for sample in samples]
        return Metric(name.otlp, name.help, name.unit, Gauge(gauges))
    by_suffix: dict[str, dict[Key, float]] = {}
    buckets: dict[Key, list[int]] = {}
    stem = name.name.removesuffix("_total")
    for sample in samples:
        suffix = sample.name.removeprefix(stem)
        if suffix == "_bucket":
            labels = tuple((label, value) for label, value in sample.labels.items() if label != "le")
            buckets.setdefault(labels, []).append(int(sample.value))
        else:
            by_suffix.setdefault(suffix, {})[tuple(sample.labels.items())] = sample.value
    began = {labels: int(seconds * NANO) for labels, seconds in by_suffix["_created"].items()}
    if name.kind == "counter":
        sums = [
            number_point(_attributes(name, dict(labels)), (began[labels], now_nano), value)
            for labels, value in by_suffix["_total"].items()
        ]
        return Metric(name.otlp, name.help, name.unit, Sum(sums, AggregationTemporality.CUMULATIVE, is_monotonic=True))
    histograms = [
        histogram_point(
            _attributes(name, dict(labels)),
            (began[labels], now_nano),
            [counts[0], *(upper - lower for lower, upper in pairwise(counts))],
            by_suffix["_sum"][labels],
            name.buckets,
        )
        for labels, counts in buckets.items()
    ]
    return Metric(name.otlp, name.help, name.unit, Histogram(histograms, AggregationTemporality.CUMULATIVE))


def number_point(
    attributes: Mapping[str, str | int], began_and_now_nano: tuple[int, int], value: float
) -> NumberDataPoint:
    """Make a sum's data point."""
    return NumberDataPoint(attributes, *_interval(began_and_now_nano), value)


def histogram_point(
    attributes: Mapping[str, str | int],
    began_and_now_nano: tuple[int, int],
    bucket_counts: Sequence[int],
    total: float,
    bounds: Sequence[float],
) -> HistogramDataPoint:
    """Make a histogram's data point, without the least and the greatest value: since the start they say little."""
    return HistogramDataPoint(
        attributes,
        *_interval(began_and_now_nano),
        sum(bucket_counts),
        total,
        bucket_counts,
        bounds,
        None,  # type: ignore[arg-type] # as the protocol has it: both are optional
        None,  # type: ignore[arg-type]
    )


def _interval(began_and_now_nano: tuple[int, int]) -> tuple[int, int]:
    """Let no series end before it began, as where the clock was set back: backends drop such a point."""
    began_nano, now_nano = began_and_now_nano
    return began_nano, max(began_nano, now_nano)


def _attributes(name: Name, labels: Mapping[str, str]) -> Attributes:
    attributes = {names.SYSTEM: names.AWS_SQS} if "queue" in labels else {}
    for label, value in labels.items():
        if value and label != "ledger":
            # A label of --events.labels may be called like one of ours: an order's region is no cloud's.
            own = label in name.labels
            attributes[ATTRIBUTES[label] if own else f"{names.EVENT_LABEL_PREFIX}{label}"] = value
    return attributes
