"""Adds the ids of the current trace to log lines, and rate-limits the SDK's own lines."""

from __future__ import annotations

import logging

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from exporter.telemetry.logs import LogRateLimiter


class LogFilter(logging.Filter):
    """Adds `trace_id` and `span_id` to lines written within a span; lets one line a minute of each SDK logger through.

    The names are those of https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
    """

    def __init__(self) -> None:
        super().__init__()
        self._log_rate_limiter = LogRateLimiter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        context = get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = format_trace_id(context.trace_id)
            record.span_id = format_span_id(context.span_id)
        if not record.name.startswith("opentelemetry."):
            return True
        if not self._log_rate_limiter.allow(record.name, 1):
            return False
        # The SDK's tracebacks tell of the network, whose failure the line itself tells.
        record.exc_info = record.exc_text = None
        vars(record).update(self._log_rate_limiter.suppressed(record.name))
        return True


def install() -> None:
    """Filter what the root logger's handlers write."""
    log_filter = LogFilter()
    for handler in logging.getLogger().handlers:
        handler.addFilter(log_filter)
