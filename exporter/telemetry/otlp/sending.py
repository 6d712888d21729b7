"""The producer's side: a span for each batch that is sent, whose context goes with the messages."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from exporter.telemetry.otlp import log_filter, names, sdk
from exporter.telemetry.otlp.push import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.telemetry.otlp.environment import Wanted

SERVICE_NAME = f"{sdk.SCOPE}-producer"
STOP_SECONDS = 2.0


class Sending:
    """Traces what is sent to one queue. Call it around each batch, and `stop` at the end."""

    def __init__(self, wanted: Wanted, queue_name: str) -> None:
        sdk.forget_empty_variables()
        log_filter.install()
        exporter = None if wanted.traces is None else sdk.span_exporter(wanted.traces)
        self._tracer, self._provider = sdk.tracer_and_provider(exporter, wanted, sdk.process_resource(SERVICE_NAME))
        self._name = f"send {queue_name}"
        self._attributes = names.operation_attributes(queue_name, "send")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def __call__(self, messages: int) -> Iterator[Mapping[str, str]]:
        """Trace one batch; gives the message attributes that carry its context."""
        with self._tracer.start_as_current_span(
            self._name,
            Context(),
            SpanKind.PRODUCER,
            {**self._attributes, names.BATCH_COUNT: messages},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            try:
                yield carrier
            except Exception as error:
                span.set_attribute(names.ERROR_TYPE, type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def stop(self) -> None:
        """Send the last spans, within `STOP_SECONDS`."""
        if self._provider is not None:
            finish([self._provider.shutdown], STOP_SECONDS)
