"""Spans and measurements of calls and batches, as the messaging conventions have them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, use_span

from exporter.sqs.answers import Failed, Received
from exporter.telemetry.otlp import names
from exporter.telemetry.otlp.links import links_to_producers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.metrics import Meter
    from opentelemetry.trace import SpanContext, Tracer

    from exporter.sqs.answers import Answer

NOT_RECORDED = "ledger_unavailable"


class Telemetry:
    """Told of each call once it is answered, and of each batch that is recorded. One thread's.

    A batch has one span, however many messages it brought, with links to its receives and to at most so many
    producers that there are `max_links` in all; 0 where spans go nowhere.
    """

    def __init__(
        self, tracer: Tracer, meter: Meter, *, queue_name: str, server: dict[str, str | int], max_links: int
    ) -> None:
        self._tracer = tracer
        self._max_links = max_links
        self._attributes = {
            operation: names.operation_attributes(queue_name, operation) | server for operation in ("receive", "delete")
        }
        self._attributes["process"] = names.operation_attributes(queue_name, "process")
        self._span_names = {operation: f"{operation} {queue_name}" for operation in self._attributes}
        self._receives: list[SpanContext] = []
        self._recorded = True
        self._operation_duration = meter.create_histogram(
            names.OPERATION_DURATION,
            unit="s",
            description="Duration of calls to SQS; empty long polls are not measured.",
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )
        self._process_duration = meter.create_histogram(
            names.PROCESS_DURATION,
            unit="s",
            description="Duration of parsing and committing what arrived at once, one or more batches of messages.",
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )
        self._consumed_messages = meter.create_counter(
            names.CONSUMED_MESSAGES,
            unit="{message}",
            description="Messages that SQS delivered to this process, duplicates included.",
        )

    @contextmanager
    def call(self, answer: Answer) -> Iterator[None]:
        """Tell of a call that was answered or failed, if it brought anything; its span is the current one meanwhile."""
        operation = "receive" if isinstance(answer, Received) else "delete"
        error, detail = None, None
        if isinstance(answer, Received):
            count = len(answer.messages) + sum(answer.released.values())
        elif isinstance(answer, Failed):
            operation, error, detail = answer.operation, answer.reason, answer.detail
            count = len(answer.deletions)
        else:
            count = len(answer.confirmed) + len(answer.failed)
            error = answer.failed[0][1] if answer.failed else None
        attributes = self._attributes[operation]
        if error is not None:
            attributes = {**attributes, names.ERROR_TYPE: error}
        span = self._tracer.start_span(
            self._span_names[operation],
            Context(),
            SpanKind.CLIENT,
            {**attributes, names.BATCH_COUNT: count} if count else attributes,
            start_time=_wall_nano(answer.sent_at),
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, detail))
        with use_span(span):
            self._operation_duration.record(answer.answered_at - answer.sent_at, attributes)
            if isinstance(answer, Received):
                self._consumed_messages.add(len(answer.messages), attributes)
                if self._max_links:
                    self._receives.append(span.get_span_context())
            yield
        span.end(_wall_nano(answer.answered_at))

    @contextmanager
    def processing(self, received: Sequence[Received]) -> Iterator[None]:
        """Tell of a batch while it parses and records; its span is the current one meanwhile."""
        links = [Link(context) for context in self._receives if context.trace_flags.sampled][: self._max_links]
        self._receives.clear()
        if self._max_links:
            links += links_to_producers(received, self._max_links - len(links))
        attributes = self._attributes["process"]
        count = sum(len(answer.messages) for answer in received)
        self._recorded = True
        began = time.monotonic()
        with self._tracer.start_as_current_span(
            self._span_names["process"],
            Context(),
            SpanKind.CONSUMER,
            {**attributes, names.BATCH_COUNT: count},
            links,
        ) as span:
            yield
            if not self._recorded:
                attributes = {**attributes, names.ERROR_TYPE: NOT_RECORDED}
                span.set_attribute(names.ERROR_TYPE, NOT_RECORDED)
                span.set_status(Status(StatusCode.ERROR, "the ledger could not be written"))
            self._process_duration.record(time.monotonic() - began, attributes)

    def not_recorded(self) -> None:
        """Tell that what this batch brought was not counted: SQS delivers it again."""
        self._recorded = False


def _wall_nano(monotonic_seconds: float) -> int:
    """Turn a moment of the monotonic clock that has just passed into Unix time, in 1e-9 s."""
    return time.time_ns() - int((time.monotonic() - monotonic_seconds) * 1e9)
