"""Spans and measurements of calls and batches, as the messaging conventions have them."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, use_span

from exporter.sqs.answers import Failed, Received
from exporter.sqs.reasons import header
from exporter.telemetry.otlp import names
from exporter.telemetry.otlp.links import links_to_producers
from exporter.telemetry.otlp.measurements import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.trace import Span, SpanContext, Tracer

    from exporter.sqs.answers import Answer
    from exporter.telemetry.otlp.measurements import Measurements

NOT_RECORDED = "ledger_unavailable"


class SpanBudget:
    """How many spans may begin: `burst` at once, and `per_second` in the long run.

    Making a span and sending it takes 90 us: one for each call would take as much as the counting.
    """

    def __init__(self, burst: int, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_second = per_second
        self._monotonic = monotonic
        self._left = float(burst)
        self._filled_at = monotonic()

    def allow(self, spans: int) -> bool:
        """Take so many from what is left, if any is: the last to be allowed may overdraw it."""
        now = self._monotonic()
        self._left = min(self._burst, self._left + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._left <= 0:
            return False
        self._left -= spans
        return True


@dataclass(frozen=True, slots=True)
class Tracing:
    """How spans are made: by whom, which share of iterations has them, how many at most, and with how many links."""

    tracer: Tracer
    sampled_share: float
    budget: SpanBudget
    max_links: int


@dataclass(slots=True)
class _Batch:
    """What is being parsed and committed; `span` is None where this iteration has none."""

    queue: str
    """Its name; "" where the batch is of several."""
    began: float
    span: Span | None


class Telemetry:
    """Told of each iteration's calls once they are answered, and of each batch that is recorded. One thread's.

    The calls of an iteration have a span each, or none has. A batch has one span, however many messages it has, where
    a receive that brought some of them has one; it links to those receives and to producers.
    """

    def __init__(
        self,
        tracing: Tracing | None,
        measurements: Measurements,
        *,
        server: dict[str, str | int],
        queue_url: Callable[[str], str | None],
    ) -> None:
        self._tracing = tracing
        self._measurements = measurements
        self._server = server
        self._queue_url = queue_url
        self._receives: list[SpanContext] = []
        """The spans of receives whose messages are in no batch yet."""
        self._batch: _Batch | None = None

    def answered(self, answers: Sequence[Answer]) -> bool:
        """Measure an iteration's calls; returns whether `call` is to be told of each."""
        measured = self._measurements.answered(answers)
        tracing = self._tracing
        if not measured or tracing is None:
            return False
        sampled = tracing.sampled_share >= 1 or random.random() < tracing.sampled_share  # noqa: S311 - a sample
        return sampled and tracing.budget.allow(measured + 1)

    @contextmanager
    def call(self, answer: Answer) -> Iterator[None]:
        """Make the span of a call that was answered or failed; log lines written meanwhile are its own."""
        if self._tracing is None:
            yield
            return
        operation, error = outcome_of(answer)
        detail = None
        if isinstance(answer, Received):
            count = len(answer.messages) + sum(answer.released.values())
        elif isinstance(answer, Failed):
            detail, count = answer.detail, len(answer.deletions)
        else:
            count = len(answer.confirmed) + len(answer.failed)
        attributes = names.operation_attributes(answer.queue, operation) | self._server
        if count:
            attributes[names.BATCH_COUNT] = count
        if error:
            attributes[names.ERROR_TYPE] = error
        request_id = header(answer.headers, "x-amzn-requestid")
        for name, known in ((names.QUEUE_URL, self._queue_url(answer.queue)), (names.REQUEST_ID, request_id)):
            if known:
                attributes[name] = known
        span = self._tracing.tracer.start_span(
            f"{operation} {answer.queue}", Context(), SpanKind.CLIENT, attributes, start_time=_wall_nano(answer.sent_at)
        )
        if error:
            span.set_status(Status(StatusCode.ERROR, detail))
        if isinstance(answer, Received) and answer.messages:
            self._receives.append(span.get_span_context())
        with use_span(span):
            yield
        span.end(_wall_nano(answer.answered_at))

    @contextmanager
    def processing(self, received: Sequence[Received]) -> Iterator[None]:
        """Begin a batch: parsed meanwhile, and ended by `recorded` or `not_recorded`, then or later."""
        self.not_recorded()
        queues = {answer.queue for answer in received}
        batch = self._batch = _Batch(queues.pop() if len(queues) == 1 else "", time.monotonic(), None)
        receives, self._receives = self._receives, []
        if self._tracing is None or not receives:
            yield
            return
        links = [Link(context) for context in receives][: self._tracing.max_links]
        links += links_to_producers(received, self._tracing.max_links - len(links))
        count = sum(len(answer.messages) for answer in received)
        batch.span = self._tracing.tracer.start_span(
            f"process {batch.queue}".rstrip(),
            Context(),
            SpanKind.CONSUMER,
            {**names.operation_attributes(batch.queue, "process"), names.BATCH_COUNT: count},
            links,
        )
        with use_span(batch.span):
            yield

    def recorded(self) -> None:
        """End the batch that was begun, if there is one: it is committed."""
        self._end_batch("")

    def not_recorded(self) -> None:
        """End the batch that was begun, if there is one: it is not counted, SQS delivers it again."""
        self._end_batch(NOT_RECORDED)

    def _end_batch(self, error: str) -> None:
        batch, self._batch = self._batch, None
        if batch is None:
            return
        self._measurements.processed(batch.queue, time.monotonic() - batch.began, error)
        if batch.span is not None:
            if error:
                batch.span.set_attribute(names.ERROR_TYPE, error)
                batch.span.set_status(Status(StatusCode.ERROR, "the ledger could not be written"))
            batch.span.end()


def _wall_nano(monotonic_seconds: float) -> int:
    """Turn a moment of the monotonic clock that has just passed into Unix time, in 1e-9 s."""
    return time.time_ns() - int((time.monotonic() - monotonic_seconds) * 1e9)
