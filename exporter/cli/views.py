"""Connects the parts of `run` to what is shown: the collectors behind /metrics and the landing page."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from exporter.cli.build import this_build
from exporter.telemetry.metrics import LedgerCollector, StateCollector
from exporter.telemetry.metrics.state import State
from exporter.web import LandingPage

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.ledger import Ledger
    from exporter.settings import Settings
    from exporter.sqs.housekeeping import Housekeeping
    from exporter.telemetry.otlp.running import OpenTelemetry
    from exporter.telemetry.readiness import Readiness

GONE = "the queue is gone: it was deleted, or is another queue's dead-letter queue by now; its counts stay"


class Views:
    """Reads the parts of one run; every method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        housekeeping: Housekeeping,
        readiness: Readiness,
        *,
        started_seconds: float,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._housekeeping = housekeeping
        self._readiness = readiness
        self._started_seconds = started_seconds

    def ready(self) -> tuple[bool, str]:
        """Return what `/-/ready` answers."""
        status = self._readiness.status()
        return status.ready, status.sentence

    def ledger_collector(self) -> LedgerCollector:
        """Make the collector of all that the ledger keeps."""
        return LedgerCollector(
            ledger=lambda: self._ledger.name,
            snapshots=lambda: self._ledger.snapshots,
            attributes=lambda: {
                name: state.attributes for name, state in self._housekeeping.queues.items() if state.attributes
            },
            depths=lambda: {name: state.depth for name, state in self._housekeeping.queues.items() if state.depth},
            max_messages=self._settings.ledger.max_ids,
            label_names=self._settings.label_names,
            speaking=lambda: self._ledger.speaker,
        )

    def state_collector(self, telemetry: OpenTelemetry | None) -> StateCollector:
        """Make the collector of what is true of the process at a scrape."""
        return StateCollector(
            State(
                ready=lambda: {queue: why is None for queue, why in self._readiness.status().queues.items()},
                commit_started_at=lambda: self._ledger.commit_started_at,
                volume_available_bytes=self._volume_available_bytes,
                clock_skew_seconds=lambda: self._housekeeping.clock_skew_seconds,
                otlp_push_failures=dict if telemetry is None else telemetry.push_failures,
                revision=this_build().revision,
                speaking=lambda: self._ledger.speaker,
            )
        )

    def landing_page(self) -> LandingPage:
        """Return what the landing page shows now."""
        status = self._readiness.status()
        build = this_build()
        return LandingPage(
            version=f"{build.version} (revision {build.revision}, Python {build.python})",
            started_seconds=self._started_seconds,
            ready=status.ready,
            state=status.sentence,
            snapshots=self._ledger.snapshots,
            depths={name: state.depth for name, state in self._housekeeping.queues.items() if state.depth},
            problems={**status.queues, **dict.fromkeys(status.gone, GONE)},
            ledger=self._ledger.name,
            max_messages=self._settings.ledger.max_ids,
            speaking=self._ledger.speaker,
        )

    def _volume_available_bytes(self) -> int | None:
        return None if self._settings.ledger.url else _available_bytes(self._settings.ledger.path)


def _available_bytes(path: Path) -> int | None:
    """Return the free space on the volume of the ledger; None where the system does not say."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return None
