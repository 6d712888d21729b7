"""Keeps the ledger at work: commits, writes what waits when idle, reopens it after a failure."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from exporter.backoff import Backoff
from exporter.errors import LedgerError
from exporter.ledger import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.ledger import Delivery, Ledger, QueueIdentity
    from exporter.telemetry.instrumentation import Instrumentation
    from exporter.telemetry.readiness import Readiness

FLUSH_SECONDS = 1.0
"""How soon what was settled is written when no commit comes by itself."""


class Recorder:
    """The consumer's hand on the ledger: while the ledger fails, nothing is recorded and `working` is False."""

    def __init__(self, ledger: Ledger, instrumentation: Instrumentation, readiness: Readiness) -> None:
        self._ledger = ledger
        self._instrumentation = instrumentation
        self._readiness = readiness
        self._backoff = Backoff(base_seconds=1.0)
        self._released: Counter[str] = Counter()
        self._unwritten_since: float | None = None
        self.working = True

    @property
    def limited(self) -> str | None:
        """Why receives are slowed down, or None."""
        return self._ledger.limited

    @property
    def capacity(self) -> int:
        """How many more messages the ledger has room for."""
        return self._ledger.capacity

    def bind(self, queue: QueueIdentity) -> None:
        """Tie the ledger to the queue. Another queue's ledger ends the program: LedgerError("other_queue")."""
        try:
            self._ledger.bind(queue)
        except LedgerError as error:
            if error.reason == "other_queue":
                raise
            self._fail(error)

    def advance(self, seconds: float) -> None:
        """Let the ledger's clock run."""
        self._ledger.advance(seconds)

    def release(self, released: Mapping[str, int]) -> None:
        """Note deliveries, by reason, that are left to expire uncounted; the next commit accounts for them."""
        if released:
            self._released.update(released)

    def record(self, deliveries: Sequence[Delivery]) -> Sequence[bool] | None:
        """Commit the outcomes; returns for each whether it was new, or None: nothing is known to be committed."""
        if not self.working:
            self._released["ledger_unavailable"] += len(deliveries)
            return None
        released, self._released = self._released, Counter()
        started = time.perf_counter()
        try:
            failpoint.reach("before_commit")
            fresh = self._ledger.record(deliveries, released)
            failpoint.reach("after_commit")
        except LedgerError as error:
            self._fail(error)
            return None
        self._instrumentation.committed(time.perf_counter() - started)
        self._unwritten_since = None
        return fresh

    def settle(self, message_ids: Iterable[bytes]) -> None:
        """Mark messages as gone from the queue, or left to its redrive policy."""
        self._ledger.settle(message_ids)
        if self._unwritten_since is None:
            self._unwritten_since = time.monotonic()

    def keep(self, now: float) -> None:
        """Reopen what failed; write what no commit came for. Also what makes room in a full memory of ids."""
        if not self.working:
            self._reopen(now)
            return
        if self._unwritten_since is None and (self._released or self._ledger.limited):
            self._unwritten_since = now
        if self._unwritten_since is None or now - self._unwritten_since < FLUSH_SECONDS:
            return
        self._unwritten_since = None
        if self._released:
            self.record(())
            return
        try:
            self._ledger.flush()
        except LedgerError as error:
            self._fail(error)

    def _reopen(self, now: float) -> None:
        if not self._backoff.due(now):
            return
        try:
            self._ledger.reopen()
            # To be read is not enough: without a commit that succeeds, messages would be taken only to be released.
            self._ledger.record((), {})
        except LedgerError as error:
            self._fail(error)
            return
        self.working = True
        self._backoff.succeeded()
        self._readiness.clear("ledger")
        self._instrumentation.ledger_recovered()

    def _fail(self, error: LedgerError) -> None:
        self.working = False
        self._backoff.failed(time.monotonic())
        self._readiness.set("ledger", str(error))
        self._instrumentation.ledger_failed(error)
