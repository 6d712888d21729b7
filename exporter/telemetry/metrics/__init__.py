"""What /metrics shows: what the ledger keeps, read from its snapshots, and instruments of the exporter's own health.

What the ledger holds is read anew at each scrape, so there is no second set of those numbers.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, enable_created_metrics

from exporter.telemetry.metrics.health import Health
from exporter.telemetry.metrics.ledger import LedgerCollector
from exporter.telemetry.metrics.state import StateCollector

__all__ = ["Health", "LedgerCollector", "StateCollector", "new_registry"]


def new_registry() -> CollectorRegistry:
    """Make a registry that holds `process_*` and `python_info`, and answers `?name[]=` for them, too."""
    # Whatever PROMETHEUS_DISABLE_CREATED_SERIES says: OTLP needs them, and what is shown is --web.created-timestamps.
    enable_created_metrics()
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
