"""Makes prometheus_client's metric families, still empty, from the table in `names`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from exporter.telemetry.metrics.names import Name


def counter(name: Name, more_labels: tuple[str, ...] = ()) -> CounterMetricFamily:
    """Make a counter without series; `more_labels` follow the name's own."""
    return CounterMetricFamily(name.name, name.help, labels=(*name.labels, *more_labels))


def gauge(name: Name) -> GaugeMetricFamily:
    """Make a gauge without series."""
    return GaugeMetricFamily(name.name, name.help, labels=name.labels)
