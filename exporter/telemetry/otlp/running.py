"""OpenTelemetry at work for one exporter: started from what the environment asks for, stopped within a second."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from exporter import __version__
from exporter.telemetry.otlp import log_filter, names, sdk
from exporter.telemetry.otlp.measurements import Measurements
from exporter.telemetry.otlp.push import Push, finish
from exporter.telemetry.otlp.snapshot import metrics_of
from exporter.telemetry.otlp.telemetry import SpanBudget, Telemetry, Tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

    from exporter.ledger import Snapshot
    from exporter.sqs import QueueDepth
    from exporter.telemetry.otlp.environment import Signal, Wanted

log = logging.getLogger("exporter.telemetry.otlp")

STOP_SECONDS = 1.0
"""What the last push is given: a collector that does not answer holds up nobody's shutdown."""
STOP_SECONDS_OF_A_FAILING_ONE = 0.2
"""What it is given where the push before it failed."""
DEFAULT_MAX_LINKS = 128


class OpenTelemetry:
    """Pushes metrics and spans from `start` to `stop`; `telemetry` is to be told of calls and batches.

    `endpoint_url` is SQS's. `snapshot` and `depth` are called on a thread of this one's own.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        queue_name: str,
        endpoint_url: str,
        snapshot: Callable[[], Snapshot],
        depth: Callable[[], QueueDepth | None],
    ) -> None:
        sdk.forget_empty_variables()
        log_filter.install()
        self._wanted = wanted
        self._snapshot = snapshot
        self._depth = depth
        self._resource = sdk.resource_of(sdk.SCOPE, snapshot().instance_id)
        self._scope = InstrumentationScope(sdk.SCOPE, __version__, names.SCHEMA_URL)
        self._measurements = Measurements(_server(endpoint_url))
        self._push = None
        if wanted.metrics is not None:
            exporter = sdk.metric_exporter(wanted.metrics)
            self._push = Push(exporter, self._collect, wanted.metric_interval_seconds)
        tracer, self._tracer_provider = sdk.tracer_and_provider(wanted.traces, wanted, self._resource, ALWAYS_ON)
        self.telemetry = Telemetry(
            None if wanted.traces is None else _tracing(tracer, wanted),
            self._measurements,
            queue_name=queue_name,
            server=_server(endpoint_url),
        )

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
        """Put what the ledger holds and what was measured into one push, under one scope."""
        now_nano = time.time_ns()
        metrics = metrics_of(self._snapshot(), self._depth(), now_nano) + self._measurements.metrics(now_nano)
        scopes = [ScopeMetrics(self._scope, metrics, names.SCHEMA_URL)]
        return MetricsData([ResourceMetrics(self._resource, scopes, self._resource.schema_url)])


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
        SpanBudget(wanted.span_batch_size, wanted.span_queue_size / (wanted.span_delay_milliseconds / 1000)),
        DEFAULT_MAX_LINKS if max_links is None else max_links,
    )


def _server(endpoint_url: str) -> dict[str, str | int]:
    """Return which server the calls go to."""
    url = urlsplit(endpoint_url)
    port = url.port or (80 if url.scheme == "http" else 443)
    return {names.SERVER_ADDRESS: url.hostname or "", names.SERVER_PORT: port}
