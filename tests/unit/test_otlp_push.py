"""What could not be pushed is counted, however the SDK says that it could not."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from exporter.telemetry.otlp.push import CountedSpanExporter


def test_a_batch_of_spans_that_raises_is_counted_like_one_that_is_refused() -> None:
    """Not every version of the SDK catches, say, that the file of a certificate is gone."""
    exporter = Mock(spec=SpanExporter)
    exporter.export.side_effect = [SpanExportResult.SUCCESS, SpanExportResult.FAILURE, OSError("no such file")]
    counted = CountedSpanExporter(exporter)
    counted.export([])
    assert counted.failures == 0
    counted.export([])
    assert counted.failures == 1
    with pytest.raises(OSError, match="no such file"):
        counted.export([])
    assert counted.failures == 2
