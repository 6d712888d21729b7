"""Pushes metrics on a thread of its own, and counts what could not be pushed."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger("exporter.telemetry.otlp")


class Push:
    """Hands what `collect` returns to the exporter: at the start, every `interval_seconds`, and at the end.

    At the start, because another process may have died before its push. What a failed push would have brought, the
    next one brings: these are totals.
    """

    def __init__(self, exporter: MetricExporter, collect: Callable[[], MetricsData], interval_seconds: float) -> None:
        self._exporter = exporter
        self._collect = collect
        self._interval_seconds = interval_seconds
        self.succeeding = True
        """Whether the latest push that came to an end succeeded."""
        self.failures = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-push", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Push once more, and end. Waits for as long as that takes: to be called where waiting is bounded."""
        self._stopping.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        self._push()
        while not self._stopping.wait(self._interval_seconds):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            self.succeeding = self._exporter.export(self._collect()) is MetricExportResult.SUCCESS
            self.failures += not self.succeeding
        except Exception:
            self.succeeding = False
            self.failures += 1
            log.exception("a push of metrics failed, the next one brings what it would have brought")


class CountedSpanExporter(SpanExporter):
    """Exports spans through another, and counts the batches that could not be exported."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failures = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self.failures += result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        """End."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait for what is under way."""
        return self._exporter.force_flush(timeout_millis)


def finish(ends: Iterable[Callable[[], object]], timeout_seconds: float) -> bool:
    """Call all of them at once and wait for no longer than that in all; returns whether each came to its end."""
    deadline = time.monotonic() + timeout_seconds
    threads = [threading.Thread(target=end, name="otlp-end", daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
