"""Instruments of the exporter's own health, which start at 0 with the process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from exporter.ledger import ERROR_REASONS
from exporter.sqs import REASONS as CALL_REASONS
from exporter.telemetry.metrics import names
from exporter.telemetry.metrics.batch_histogram import BatchHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

COMPLETE_QUEUES = 10
"""So many queues have all their series from the start; a further one's histograms (100 series) begin when observed."""


@dataclass(slots=True)
class _Queue:
    """Instruments that every iteration of the loop touches, looked up once."""

    deleted: Counter
    receives_in_flight: Gauge
    last_successful_receive: Gauge
    in_flight: int = -1
    """What the gauge shows."""


class Health:
    """What happened to requests, messages and commits; each queue is to be taken up before it is told of.

    Every label value known in advance exists from then on, at 0. One thread, the consumer's, calls the methods; any
    other may scrape.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deleted = Counter(*names.DELETED.instrument, registry=registry)
        self._delete_failures = Counter(*names.DELETE_FAILURES.instrument, registry=registry)
        self._receive_errors = Counter(*names.RECEIVE_ERRORS.instrument, registry=registry)
        self._ledger_errors = Counter(*names.LEDGER_ERRORS.instrument, registry=registry)
        for reason in ERROR_REASONS:
            self._ledger_errors.labels(reason)
        self._receives_in_flight = Gauge(*names.RECEIVES_IN_FLIGHT.instrument, registry=registry)
        self._last_successful_receive = Gauge(*names.LAST_SUCCESSFUL_RECEIVE.instrument, registry=registry)
        self._requests = Counter(*names.REQUESTS.instrument, registry=registry)
        self._requests_by: dict[tuple[str, str], Counter] = {}
        self._request_durations = BatchHistogram(names.REQUEST_DURATION, registry)
        self._commits = Histogram(
            *names.COMMIT_DURATION.instrument, buckets=names.COMMIT_DURATION.buckets, registry=registry
        )
        self._event_ages = BatchHistogram(names.EVENT_AGE, registry)
        self._message_ages = BatchHistogram(names.MESSAGE_AGE, registry)
        self._queues: dict[str, _Queue] = {}

    def take_up(self, queue: str) -> None:
        """Begin the queue's series."""
        self._queues[queue] = _Queue(
            self._deleted.labels(queue),
            self._receives_in_flight.labels(queue),
            self._last_successful_receive.labels(queue),
        )
        for reason in CALL_REASONS:
            self._delete_failures.labels(queue, reason)
            self._receive_errors.labels(queue, reason)
        for operation in names.OPERATIONS:
            self.requests_made(queue, operation, 0)
        if len(self._queues) <= COMPLETE_QUEUES:
            self._event_ages.begin((queue,))
            self._message_ages.begin((queue,))
            for operation in names.OPERATIONS:
                self._request_durations.begin((queue, operation))

    def messages_deleted(self, queue: str, count: int) -> None:
        """Count deletes that SQS confirmed."""
        self._queues[queue].deleted.inc(count)

    def delete_failed(self, queue: str, reason: str, count: int) -> None:
        """Count deletes that SQS did not confirm; `reason` is one of `exporter.sqs.REASONS`."""
        self._delete_failures.labels(queue, reason).inc(count)

    def receive_failed(self, queue: str, reason: str) -> None:
        """Count a receive that failed; `reason` is one of `exporter.sqs.REASONS`."""
        self._receive_errors.labels(queue, reason).inc()

    def receive_succeeded(self, queue: str, at_seconds: float) -> None:
        """Note when (Unix time) a receive succeeded."""
        self._queues[queue].last_successful_receive.set(at_seconds)

    def set_receives_in_flight(self, queue: str, count: int) -> None:
        """Note how many receives SQS has not answered yet."""
        instruments = self._queues[queue]
        if instruments.in_flight != count:
            instruments.in_flight = count
            instruments.receives_in_flight.set(count)

    def requests_made(self, queue: str, operation: str, count: int) -> None:
        """Count requests, whatever became of them."""
        counter = self._requests_by.get((queue, operation))
        if counter is None:
            counter = self._requests_by[queue, operation] = self._requests.labels(queue, operation)
        counter.inc(count)

    def observe_requests(self, queue: str, operation: str, seconds: Iterable[float]) -> None:
        """Note how long a batch's calls took; `operation` is one of `exporter.telemetry.metrics.names.OPERATIONS`."""
        self._request_durations.observe((queue, operation), seconds)

    def observe_commit(self, seconds: float) -> None:
        """Note how long a commit of the ledger took."""
        self._commits.observe(seconds)

    def ledger_failed(self, reason: str) -> None:
        """Count a failure of the ledger; `reason` is one of `exporter.ledger.ERROR_REASONS`."""
        self._ledger_errors.labels(reason).inc()

    def observe_event_ages(self, queue: str, ages: Iterable[float]) -> None:
        """Note how old (in seconds) a batch's events were at their commit."""
        self._event_ages.observe((queue,), ages)

    def observe_message_ages(self, queue: str, ages: Iterable[float]) -> None:
        """Note how old (in seconds) a batch's messages were at their commit."""
        self._message_ages.observe((queue,), ages)
