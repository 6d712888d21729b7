"""The recorder: when it calls it a failure that the ledger can't be written yet."""

from __future__ import annotations

from consumer_parts import Clock, HandMadeLedger
from prometheus_client import CollectorRegistry

from exporter.consumer.recorder import CONNECTING_SECONDS, Recorder
from exporter.errors import LedgerError
from exporter.telemetry.instrumentation import Instrumentation
from exporter.telemetry.metrics.health import Health
from exporter.telemetry.readiness import Readiness


class Started:
    """A recorder whose ledger is still to be connected to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = HandMadeLedger(self.clock)
        self.ledger.problem = LedgerError("unavailable", "connecting to PostgreSQL")
        self._registry = CollectorRegistry()
        self._readiness = Readiness(self.clock)
        self.recorder = Recorder(
            self.ledger, Instrumentation(Health(self._registry)), self._readiness, monotonic=self.clock
        )

    def failures_after(self, seconds: float) -> float | None:
        """Let time pass in small steps, and return how many failures were counted until then."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.recorder.keep(self.clock.now)
            self.recorder.completed()
            self.clock.now += 0.1
        return self._registry.get_sample_value("sqs_exporter_ledger_errors_total", {"reason": "unavailable"})


def test_connecting_at_the_start_is_no_failure() -> None:
    """A restart or a rollout must not fire SqsExporterLedgerErrors, on a busy machine either."""
    started = Started()
    assert started.failures_after(CONNECTING_SECONDS - 1) == 0
    assert not started.recorder.working
    started.ledger.problem = None
    assert started.failures_after(1) == 0
    assert started.recorder.working


def test_connecting_for_long_is_a_failure() -> None:
    """A server that does not answer is told."""
    assert Started().failures_after(30) != 0


def test_a_server_that_refuses_is_a_failure_at_once() -> None:
    """What it says is told, and not waited out."""
    started = Started()
    started.ledger.problem = LedgerError("unavailable", "PostgreSQL can't be reached: Connection refused")
    assert started.failures_after(CONNECTING_SECONDS - 1) != 0
