"""What could not be pushed is counted, however the SDK says that it could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from exporter.telemetry.otlp.push import CountedSpanExporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class Exporter(SpanExporter):
    """Answers, or raises, what a test wants."""

    def __init__(self, outcome: SpanExportResult | Exception) -> None:
        self.outcome = outcome

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Do so."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_a_batch_of_spans_that_raises_is_counted_like_one_that_is_refused() -> None:
    """Not every version of the SDK catches, say, that the file of a certificate is gone."""
    exporter = Exporter(SpanExportResult.SUCCESS)
    counted = CountedSpanExporter(exporter)
    counted.export([])
    assert counted.failures == 0
    exporter.outcome = SpanExportResult.FAILURE
    assert counted.export([]) is SpanExportResult.FAILURE
    assert counted.failures == 1
    exporter.outcome = OSError("no such file")
    with pytest.raises(OSError, match="no such file"):
        counted.export([])
    assert counted.failures == 2
