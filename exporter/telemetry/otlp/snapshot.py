"""The ledger's snapshot as OpenTelemetry metric data.

Built by hand, because the SDK's instruments start their sums when the process starts: a total of the ledger's whole
life under such a start time would be counted anew at each restart. These sums start when the ledger says they did.
https://opentelemetry.io/docs/specs/otel/metrics/data-model/#sums

Where Prometheus takes them in, the names come out as those of /metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Metric, NumberDataPoint, Sum

from exporter.events.event import NANO
from exporter.events.event import REASONS as REJECTED_REASONS
from exporter.ledger import RELEASED_REASONS
from exporter.telemetry.metrics import names as metric_names
from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.ledger import Snapshot
    from exporter.sqs import QueueDepth
    from exporter.telemetry.metrics.names import Name

Attributes = dict[str, str | int]
Point = tuple[Attributes, float, float]
"""Attributes, value, and when the series began (Unix time)."""


def metrics_of(snapshot: Snapshot, depth: QueueDepth | None, now_nano: int) -> list[Metric]:
    """Return everything that was committed, and the queue's depth, as of `now_nano` (Unix time in 1e-9 s)."""
    queue: Attributes = {names.SYSTEM: names.AWS_SQS, names.DESTINATION: snapshot.queue_name}
    by_type = [({**queue, names.EVENT_TYPE: name}, totals) for name, totals in snapshot.types.items()]

    def total(name: str, said: Name, value: int) -> Metric:
        return _sum(name, "{message}", said, [(queue, value, snapshot.created_seconds)], now_nano)

    def by_reason(name: str, said: Name, counts: Mapping[str, int], known: Iterable[str]) -> Metric:
        shown = {**dict.fromkeys(known, 0), **counts}
        points = [({**queue, names.ERROR_TYPE: why}, n, snapshot.created_seconds) for why, n in shown.items()]
        return _sum(name, "{message}", said, points, now_nano)

    return [
        _sum(
            "sqs.events",
            "{event}",
            metric_names.EVENTS,
            [(labels, totals.count, totals.created_seconds) for labels, totals in by_type],
            now_nano,
        ),
        _sum(
            "sqs.event.value",
            "1",
            metric_names.VALUES,
            [(labels, totals.value_nano / NANO, totals.created_seconds) for labels, totals in by_type],
            now_nano,
        ),
        _sum(
            "sqs.event.negative_value",
            "1",
            metric_names.NEGATIVES,
            [(labels, totals.negative_nano / NANO, totals.created_seconds) for labels, totals in by_type],
            now_nano,
        ),
        _gauge(
            "sqs.event.last_occurred.timestamp",
            "s",
            metric_names.LAST_OCCURRED,
            [(labels, totals.last_occurred_seconds) for labels, totals in by_type],
            now_nano,
        ),
        total("sqs.exporter.messages.received", metric_names.RECEIVED, snapshot.received),
        total("sqs.exporter.messages.duplicate", metric_names.DUPLICATE, snapshot.duplicate),
        by_reason("sqs.exporter.messages.rejected", metric_names.REJECTED, snapshot.rejected, REJECTED_REASONS),
        by_reason("sqs.exporter.messages.released", metric_names.RELEASED, snapshot.released, RELEASED_REASONS),
        total("sqs.exporter.timestamps.unreadable", metric_names.TIMESTAMPS_UNREADABLE, snapshot.timestamps_unreadable),
        total("sqs.exporter.ledger.forgotten_early", metric_names.LEDGER_FORGOTTEN_EARLY, snapshot.forgotten_early),
        _gauge(
            "sqs.exporter.ledger.messages",
            "{message}",
            metric_names.LEDGER_MESSAGES,
            [(queue, snapshot.messages)],
            now_nano,
        ),
        _gauge(
            "sqs.exporter.ledger.unsettled_messages",
            "{message}",
            metric_names.LEDGER_UNSETTLED,
            [(queue, snapshot.unsettled_messages)],
            now_nano,
        ),
        *(_depth(queue, depth, now_nano) if depth else ()),
    ]


def _depth(queue: Attributes, depth: QueueDepth, now_nano: int) -> Iterable[Metric]:
    states = (("visible", depth.visible), ("in_flight", depth.in_flight), ("delayed", depth.delayed))
    yield _gauge(
        "sqs.queue.messages",
        "{message}",
        metric_names.DEPTH,
        [({**queue, names.QUEUE_STATE: state}, count) for state, count in states],
        now_nano,
    )
    if depth.dead_letter_queue is not None:
        yield _gauge(
            "sqs.dead_letter_queue.messages",
            "{message}",
            metric_names.DEAD_LETTER_DEPTH,
            [({**queue, names.DEAD_LETTER_QUEUE: depth.dead_letter_queue}, depth.dead_letter_visible)],
            now_nano,
        )


def _sum(name: str, unit: str, said: Name, points: Iterable[Point], now_nano: int) -> Metric:
    return Metric(
        name,
        said.help,
        unit,
        Sum(
            [_point(attributes, int(began * NANO), now_nano, value) for attributes, value, began in points],
            AggregationTemporality.CUMULATIVE,
            is_monotonic=True,
        ),
    )


def _gauge(
    name: str, unit: str, said: Name, points: Iterable[tuple[Attributes, float | None]], now_nano: int
) -> Metric:
    """Make a gauge of the values that are known."""
    known = [_point(attributes, 0, now_nano, value) for attributes, value in points if value is not None]
    return Metric(name, said.help, unit, Gauge(known))


def _point(attributes: Attributes, began_nano: int, now_nano: int, value: float) -> NumberDataPoint:
    # A clock that was set back would end a series before it began, and backends drop such a point.
    return NumberDataPoint(attributes, began_nano, max(began_nano, now_nano), value)
