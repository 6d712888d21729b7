"""What /metrics shows: a collector that reads the ledger's snapshot, and instruments of the exporter's own health.

What the ledger holds is read anew at each scrape, so there is no second set of those numbers. The health is ordinary
prometheus_client instruments, which start at zero with the process.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.events.event import NANO
from exporter.events.event import REASONS as REJECTED_REASONS
from exporter.ledger import ERROR_REASONS, RELEASED_REASONS
from exporter.sqs import REASONS as CALL_REASONS
from exporter.telemetry.metrics import names
from exporter.telemetry.metrics.batch_histogram import BatchHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from exporter.ledger import Snapshot
    from exporter.sqs import QueueDepth
    from exporter.telemetry.metrics.names import Name


def new_registry() -> CollectorRegistry:
    """Make a registry that holds `process_*` and `python_info`, and answers `?name[]=` for them, too."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class LedgerCollector(Collector):
    """All that was committed, read from one snapshot a scrape; beside it the queue's depth, readiness and the build.

    `snapshot` and `depth` give None as long as nothing is known: their families are then empty.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        snapshot: Callable[[], Snapshot | None],
        depth: Callable[[], QueueDepth | None],
        ready: Callable[[], bool],
        revision: str = "unknown",
    ) -> None:
        self._queue_name = queue_name
        self._snapshot = snapshot
        self._depth = depth
        self._ready = ready
        self._build = (__version__, revision, platform.python_version())

    def describe(self) -> Iterable[Metric]:
        """Name the families, so that registration collects nothing and `?name[]=` finds them."""
        yield from self._families(None, None, ready=False)

    def collect(self) -> Iterable[Metric]:
        """Give every family as of one snapshot."""
        yield from self._families(self._snapshot(), self._depth(), ready=self._ready())

    def _families(self, snapshot: Snapshot | None, depth: QueueDepth | None, *, ready: bool) -> Iterable[Metric]:
        yield from _types(self._queue_name, snapshot)
        yield from _messages(self._queue_name, snapshot)
        yield from _memory(snapshot)
        yield from _depth(self._queue_name, depth)
        readiness = _gauge(names.READY)
        readiness.add_metric((self._queue_name,), int(ready))
        yield readiness
        build_info = _gauge(names.BUILD_INFO)
        build_info.add_metric(self._build, 1)
        yield build_info


def _counter(name: Name) -> CounterMetricFamily:
    return CounterMetricFamily(name.name, name.help, labels=name.labels)


def _gauge(name: Name) -> GaugeMetricFamily:
    return GaugeMetricFamily(name.name, name.help, labels=name.labels)


def _types(queue_name: str, snapshot: Snapshot | None) -> tuple[Metric, ...]:
    events, values, negatives = _counter(names.EVENTS), _counter(names.VALUES), _counter(names.NEGATIVES)
    last_occurred = _gauge(names.LAST_OCCURRED)
    if snapshot is not None:
        for event_type, totals in snapshot.types.items():
            labels = (queue_name, event_type)
            events.add_metric(labels, totals.count, totals.created_seconds)
            values.add_metric(labels, totals.value_nano / NANO, totals.created_seconds)
            negatives.add_metric(labels, totals.negative_nano / NANO, totals.created_seconds)
            if totals.last_occurred_seconds is not None:
                last_occurred.add_metric(labels, totals.last_occurred_seconds)
    return events, values, negatives, last_occurred


def _messages(queue_name: str, snapshot: Snapshot | None) -> tuple[Metric, ...]:
    received, duplicate = _counter(names.RECEIVED), _counter(names.DUPLICATE)
    rejected, released = _counter(names.REJECTED), _counter(names.RELEASED)
    unreadable = _counter(names.TIMESTAMPS_UNREADABLE)
    if snapshot is not None:
        created = snapshot.created_seconds
        received.add_metric((queue_name,), snapshot.received, created)
        duplicate.add_metric((queue_name,), snapshot.duplicate, created)
        unreadable.add_metric((queue_name,), snapshot.timestamps_unreadable, created)
        for reason, count in (dict.fromkeys(REJECTED_REASONS, 0) | dict(snapshot.rejected)).items():
            rejected.add_metric((queue_name, reason), count, created)
        for reason, count in (dict.fromkeys(RELEASED_REASONS, 0) | dict(snapshot.released)).items():
            released.add_metric((queue_name, reason), count, created)
    return received, duplicate, rejected, released, unreadable


def _memory(snapshot: Snapshot | None) -> tuple[Metric, ...]:
    remembered, unsettled = _gauge(names.LEDGER_MESSAGES), _gauge(names.LEDGER_UNSETTLED)
    oldest, forgotten = _gauge(names.LEDGER_OLDEST), _counter(names.LEDGER_FORGOTTEN_EARLY)
    if snapshot is not None:
        remembered.add_metric((), snapshot.messages)
        unsettled.add_metric((), snapshot.unsettled_messages)
        forgotten.add_metric((), snapshot.forgotten_early, snapshot.created_seconds)
        if snapshot.oldest_message_seconds is not None:
            oldest.add_metric((), snapshot.oldest_message_seconds)
    return remembered, unsettled, oldest, forgotten


def _depth(queue_name: str, depth: QueueDepth | None) -> tuple[Metric, ...]:
    messages, dead_letters = _gauge(names.DEPTH), _gauge(names.DEAD_LETTER_DEPTH)
    if depth is not None:
        for state, count in (("visible", depth.visible), ("in_flight", depth.in_flight), ("delayed", depth.delayed)):
            if count is not None:
                messages.add_metric((queue_name, state), count)
        if depth.dead_letter_queue is not None and depth.dead_letter_visible is not None:
            dead_letters.add_metric((queue_name, depth.dead_letter_queue), depth.dead_letter_visible)
    return messages, dead_letters


class Health:
    """The exporter's own instruments. Every label value known in advance exists from the start, at 0.

    One thread, the consumer's, calls the methods; any other may scrape.
    """

    def __init__(self, registry: CollectorRegistry, queue_name: str) -> None:
        self._queue_name = queue_name
        self._deleted = Counter(*names.DELETED, registry=registry).labels(queue_name)
        self._delete_failures = Counter(*names.DELETE_FAILURES, registry=registry)
        self._receive_errors = Counter(*names.RECEIVE_ERRORS, registry=registry)
        for reason in CALL_REASONS:
            self._delete_failures.labels(queue_name, reason)
            self._receive_errors.labels(queue_name, reason)
        self._ledger_errors = Counter(*names.LEDGER_ERRORS, registry=registry)
        for reason in ERROR_REASONS:
            self._ledger_errors.labels(reason)
        self._receives_in_flight = Gauge(*names.RECEIVES_IN_FLIGHT, registry=registry).labels(queue_name)
        self._last_successful_receive = Gauge(*names.LAST_SUCCESSFUL_RECEIVE, registry=registry).labels(queue_name)
        self._requests = BatchHistogram(
            names.REQUEST_DURATION,
            [(queue_name, operation) for operation in names.OPERATIONS],
            names.REQUEST_BUCKETS,
            registry,
        )
        self._commits = Histogram(*names.COMMIT_DURATION, buckets=names.COMMIT_BUCKETS, registry=registry)
        self._event_ages = BatchHistogram(names.EVENT_AGE, [(queue_name,)], names.AGE_BUCKETS, registry)
        self._message_ages = BatchHistogram(names.MESSAGE_AGE, [(queue_name,)], names.AGE_BUCKETS, registry)

    def messages_deleted(self, count: int) -> None:
        """Count deletes that SQS confirmed."""
        self._deleted.inc(count)

    def delete_failed(self, reason: str, count: int = 1) -> None:
        """Count deletes that SQS did not confirm; `reason` is one of `exporter.sqs.REASONS`."""
        self._delete_failures.labels(self._queue_name, reason).inc(count)

    def receive_failed(self, reason: str) -> None:
        """Count a receive that failed; `reason` is one of `exporter.sqs.REASONS`."""
        self._receive_errors.labels(self._queue_name, reason).inc()

    def receive_succeeded(self, at_seconds: float) -> None:
        """Note when (Unix time) a receive succeeded."""
        self._last_successful_receive.set(at_seconds)

    def set_receives_in_flight(self, count: int) -> None:
        """Note how many receives SQS has not answered yet."""
        self._receives_in_flight.set(count)

    def observe_requests(self, operation: str, seconds: Iterable[float]) -> None:
        """Note how long a batch's calls took; `operation` is one of `exporter.telemetry.metrics.names.OPERATIONS`."""
        self._requests.observe((self._queue_name, operation), seconds)

    def observe_commit(self, seconds: float) -> None:
        """Note how long a commit of the ledger took."""
        self._commits.observe(seconds)

    def ledger_failed(self, reason: str) -> None:
        """Count a failure of the ledger; `reason` is one of `exporter.ledger.ERROR_REASONS`."""
        self._ledger_errors.labels(reason).inc()

    def observe_event_ages(self, ages: Iterable[float]) -> None:
        """Note how old (in seconds) a batch's events were at their commit."""
        self._event_ages.observe((self._queue_name,), ages)

    def observe_message_ages(self, ages: Iterable[float]) -> None:
        """Note how old (in seconds) a batch's messages were at their commit."""
        self._message_ages.observe((self._queue_name,), ages)
