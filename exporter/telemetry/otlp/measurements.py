"""The messaging conventions' metrics of this process, added up here and turned into OpenTelemetry's data at a push.

The SDK's instruments take 5 us a measurement, which at 7,000 calls a second is a tenth of what the exporter can count.
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    Metric,
    Sum,
)

from exporter.sqs.answers import Deleted, Failed, Received
from exporter.telemetry.otlp import names
from exporter.telemetry.otlp.families import histogram_point, number_point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.sqs.answers import Answer

Attributes = dict[str, str | int]
Key = tuple[str, str, str]
"""Queue ("" where a batch is of several), operation and error.type ("" for none)."""


class Measurements:
    """Durations of calls and of batches, and messages received, since the process started.

    One thread measures, another may ask for `metrics`. `server` is what SQS's address adds to calls.
    """

    def __init__(self, server: Attributes) -> None:
        self._server = server
        self._began_nano = time.time_ns()
        self._lock = threading.Lock()
        self._calls: dict[Key, _Durations] = {}
        self._batches: dict[Key, _Durations] = {}
        self._consumed: dict[str, int] = {}

    def answered(self, answers: Sequence[Answer]) -> int:
        """Measure calls that were answered or failed; returns how many.

        Empty long polls are not measured: they take as long as they wait.
        """
        measured = 0
        with self._lock:
            for answer in answers:
                operation, error = outcome_of(answer)
                if isinstance(answer, Received):
                    if not answer.messages and not answer.released:
                        continue
                    self._consumed[answer.queue] = self._consumed.get(answer.queue, 0) + len(answer.messages)
                measured += 1
                _observe(self._calls, (answer.queue, operation, error), answer.answered_at - answer.sent_at)
        return measured

    def processed(self, queue: str, seconds: float, error: str = "") -> None:
        """Measure a batch, from the start of parsing to the end of its commit."""
        with self._lock:
            _observe(self._batches, (queue, "process", error), seconds)

    def metrics(self, now_nano: int) -> list[Metric]:
        """Return all of it as of `now_nano` (Unix time in 1e-9 s)."""
        with self._lock:
            calls = {key: durations.copy() for key, durations in self._calls.items()}
            batches = {key: durations.copy() for key, durations in self._batches.items()}
            consumed = dict(self._consumed)
        found = []
        if calls:
            found.append(
                self._histogram(
                    names.OPERATION_DURATION,
                    "Duration of calls to SQS; empty long polls are not measured.",
                    [(self._of_call(key), durations) for key, durations in calls.items()],
                    now_nano,
                )
            )
        if batches:
            found.append(
                self._histogram(
                    names.PROCESS_DURATION,
                    "Duration of parsing and committing what arrived at once, one or more batches of messages.",
                    [(_attributes(key), durations) for key, durations in batches.items()],
                    now_nano,
                )
            )
        if consumed:
            points = [
                number_point(self._of_call((queue, "receive", "")), (self._began_nano, now_nano), count)
                for queue, count in consumed.items()
            ]
            found.append(
                Metric(
                    names.CONSUMED_MESSAGES,
                    "Messages that SQS delivered to this process, duplicates included.",
                    "{message}",
                    Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True),
                )
            )
        return found

    def _of_call(self, key: Key) -> Attributes:
        return _attributes(key) | self._server

    def _histogram(
        self, name: str, description: str, series: Sequence[tuple[Attributes, _Durations]], now_nano: int
    ) -> Metric:
        points = [
            histogram_point(
                attributes, (self._began_nano, now_nano), durations.counts, durations.total, names.DURATION_BUCKETS
            )
            for attributes, durations in series
        ]
        return Metric(name, description, "s", Histogram(points, AggregationTemporality.CUMULATIVE))


class _Durations:
    """A histogram of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(names.DURATION_BUCKETS) + 1)
        self.total = 0.0

    def copy(self) -> _Durations:
        """Return one that does not change."""
        same = _Durations()
        same.counts, same.total = list(self.counts), self.total
        return same


def outcome_of(answer: Answer) -> tuple[str, str]:
    """Return the operation, and its error.type: "" where it succeeded, else the first reason of several."""
    if isinstance(answer, Received):
        return "receive", ""
    if isinstance(answer, Failed):
        return answer.operation, answer.reason
    operation = "delete" if isinstance(answer, Deleted) else "change_visibility"
    return operation, answer.failed[0][1] if answer.failed else ""


def _observe(series: dict[Key, _Durations], key: Key, seconds: float) -> None:
    durations = series.get(key)
    if durations is None:
        durations = series[key] = _Durations()
    durations.counts[bisect_left(names.DURATION_BUCKETS, seconds)] += 1
    durations.total += seconds


def _attributes(key: Key) -> Attributes:
    queue, operation, error = key
    attributes = names.operation_attributes(queue, operation)
    if error:
        attributes[names.ERROR_TYPE] = error
    return attributes
