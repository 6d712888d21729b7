"""Starts OpenTelemetry as its environment variables ask for, and stops it within a second."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from exporter import __version__
from exporter.telemetry.otlp import log_filter, names, sdk
from exporter.telemetry.otlp.families import metrics_of
from exporter.telemetry.otlp.measurements import Measurements
from exporter.telemetry.otlp.push import CountedSpanExporter, Push, finish
from exporter.telemetry.otlp.telemetry import SpanBudget, Telemetry, Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer
    from prometheus_client.registry import Collector

    from exporter.telemetry.otlp.environment import Signal, Wanted

log = logging.getLogger("exporter.telemetry.otlp")

STOP_SECONDS = 1.0
"""What the last push is given: a collector that does not answer holds up nobody's shutdown."""
STOP_SECONDS_OF_A_FAILING_ONE = 0.2
"""What it is given where the push before it failed."""
DEFAULT_MAX_LINKS = 128


class OpenTelemetry:
    """Pushes metrics and spans from `start` to `stop`; `telemetry` is to be told of calls and batches.

    `registry` is what /metrics shows, and `ledger` gives the ledger's name: both are asked on the thread that pushes.
    `queue_url` gives a queue's URL where it is known, on the thread that tells of calls. `endpoint_url` is SQS's.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        registry: Collector,
        ledger: Callable[[], str],
        queue_url: Callable[[str], str | None],
        endpoint_url: str,
    ) -> None:
        sdk.forget_empty_variables()
        log_filter.install()
        self._wanted = wanted
        self._registry = registry
        self._ledger = ledger
        self._resource = sdk.process_resource(sdk.SCOPE)
        self._scope = InstrumentationScope(sdk.SCOPE, __version__, names.SCHEMA_URL)
        server = _server(endpoint_url)
        self._measurements = Measurements(server)
        self._push = None
        if wanted.metrics is not None:
            exporter = sdk.metric_exporter(wanted.metrics)
            self._push = Push(exporter, self._collect, wanted.metric_interval_seconds)
        self._spans = None if wanted.traces is None else CountedSpanExporter(sdk.span_exporter(wanted.traces))
        tracer, self._tracer_provider = sdk.tracer_and_provider(self._spans, wanted, self._resource, ALWAYS_ON)
        self.telemetry = Telemetry(
            None if self._spans is None else _tracing(tracer, wanted),
            self._measurements,
            server=server,
            queue_url=queue_url,
        )

    def push_failures(self) -> Mapping[str, int]:
        """Return how many pushes failed so far, by signal: of those that are on."""
        pushed = {"metrics": self._push, "traces": self._spans}
        return {signal: by.failures for signal, by in pushed.items() if by is not None}

    def start(self) -> Self:
        """Begin to push."""
        log.info(
            "OpenTelemetry is on",
            extra={"metrics": _destination(self._wanted.metrics), "traces": _destination(self._wanted.traces)},
        )
        if self._push is not None:
            self._push.start()
        return self

    def stop(self) -> None:
        """Push what is left and end, within `STOP_SECONDS`. To be called once, after the ledger's last commit."""
        ends: list[Callable[[], object]] = []
        failing = False
        if self._push is not None:
            ends.append(self._push.stop)
            failing = not self._push.succeeding
        if self._tracer_provider is not None:
            ends.append(self._tracer_provider.shutdown)
        if not finish(ends, STOP_SECONDS_OF_A_FAILING_ONE if failing else STOP_SECONDS):
            log.warning("OpenTelemetry's last push was given up: of metrics, the next start pushes the same totals")

    def _collect(self) -> MetricsData:
        """Put what the ledger keeps, if this process shows it, and the process's health into one push."""
        now_nano = time.time_ns()
        kept, health = metrics_of(self._registry.collect(), now_nano)
        described = [self._describe(self._resource, health + self._measurements.metrics(now_nano))]
        if kept:
            described.insert(0, self._describe(sdk.ledger_resource(self._resource, self._ledger()), kept))
        return MetricsData(described)

    def _describe(self, resource: Resource, metrics: list[Metric]) -> ResourceMetrics:
        return ResourceMetrics(
            resource, [ScopeMetrics(self._scope, metrics, names.SCHEMA_URL)], self._resource.schema_url
        )


def _destination(signal: Signal | None) -> str:
    """Say where a signal goes."""
    if signal is None:
        return "off"
    return f"{signal.endpoint} ({signal.protocol})"


def _tracing(tracer: Tracer, wanted: Wanted) -> Tracing:
    max_links = SpanLimits().max_links
    return Tracing(
        tracer,
        wanted.sampled_share,
        SpanBudget(wanted.span_batch_size, wanted.span_batch_size / (wanted.span_delay_milliseconds / 1000)),
        DEFAULT_MAX_LINKS if max_links is None else max_links,
    )


def _server(endpoint_url: str) -> dict[str, str | int]:
    """Return which server the calls go to."""
    url = urlsplit(endpoint_url)
    port = url.port or (80 if url.scheme == "http" else 443)
    return {names.SERVER_ADDRESS: url.hostname or "", names.SERVER_PORT: port}
