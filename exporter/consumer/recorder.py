"""Keeps the ledger at work: submits what was gathered, writes what waits when idle, reopens it after a failure."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from exporter.backoff import Backoff
from exporter.ledger import QueueBatch, failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.errors import LedgerError
    from exporter.ledger import Delivery, Ledger, QueueIdentity
    from exporter.telemetry.instrumentation import Instrumentation
    from exporter.telemetry.readiness import Readiness

CONNECTING_SECONDS = 5.0
"""How long a ledger may be connected to at the start before that is a failure: a restart is none."""
FLUSH_SECONDS = 1.0
"""How soon what was settled is written when no commit comes by itself."""
LIMITED_FLUSH_SECONDS = 0.1
"""How soon it is written while --ledger.max-ids slows receives down: each commit forgets some ids."""


class Recorder:
    """Calls the ledger for the consumer. While the ledger fails nothing is recorded, and `working` is False."""

    def __init__(
        self,
        ledger: Ledger,
        instrumentation: Instrumentation,
        readiness: Readiness,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._instrumentation = instrumentation
        self._readiness = readiness
        self._monotonic = monotonic
        self._backoff = Backoff(base_seconds=1.0)
        self._released: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._unwritten_since: float | None = None
        self._under_way = False
        self.working = ledger.problem is None
        """Whether what is received now can be recorded."""
        self._at_first = ledger.problem
        """That it is still to be connected to, which is a failure only where it lasts."""
        self._connects_until = monotonic() + CONNECTING_SECONDS
        if ledger.problem is not None:
            self._backoff.failed(monotonic())
            readiness.set("ledger", str(ledger.problem))

    @property
    def under_way(self) -> bool:
        """Whether a commit is under way: nothing can be submitted before it has ended."""
        return self._under_way

    @property
    def unaccounted(self) -> bool:
        """Whether deliveries were released that no commit has accounted for, and one can."""
        return self.working and bool(self._released)

    @property
    def commit_started_at(self) -> float | None:
        """When the commit under way was submitted (monotonic seconds), None: none is."""
        return self._ledger.commit_started_at

    def descriptor(self) -> tuple[int, int] | None:
        """Return what to wait for beside the answers, see `Ledger.descriptor`."""
        return self._ledger.descriptor()

    def deadline(self) -> float:
        """Return when the ledger, or what waits to be written, wants to be looked at again (monotonic seconds)."""
        wanted = self._ledger.deadline()
        deadline = float("inf") if wanted is None else wanted
        if self._under_way:
            return deadline  # whatever else waits can't be submitted before that has ended
        if not self.working:
            return min(deadline, self._backoff.due_at)
        if self._unwritten_since is None:
            return deadline
        return min(deadline, self._unwritten_since + FLUSH_SECONDS)

    def bind(self, queue: QueueIdentity) -> None:
        """Ask that the queue be taken up, or that its attributes be."""
        self._ledger.bind(queue)

    def bound(self, queue: str) -> bool:
        """Whether the queue is taken up. Raises LedgerError("other_queue"): its rows are another queue's."""
        return self._ledger.bound(queue)

    def limited(self, queue: str) -> str | None:
        """Return why the queue's receives are slowed down (a sentence), or None."""
        return self._ledger.limited(queue)

    def capacity(self, queue: str) -> int:
        """Return how many more messages of the queue may be taken now."""
        return self._ledger.capacity(queue)

    def advance(self, queue: str, seconds: float) -> None:
        """Let the queue's clock run."""
        self._ledger.advance(queue, seconds)

    def release(self, queue: str, released: Mapping[str, int]) -> None:
        """Note deliveries, by reason, that are left to expire uncounted; the next commit accounts for them."""
        if released:
            self._released[queue].update(released)
            self._unwritten()

    def settle(self, queue: str, message_ids: Iterable[bytes]) -> None:
        """Mark messages as gone from the queue, or left to its redrive policy."""
        self._ledger.settle(queue, message_ids)
        self._unwritten()

    def submit(self, deliveries: Mapping[str, Sequence[Delivery]]) -> None:
        """Begin to commit what was found out of these deliveries, by queue. To be called when none is under way."""
        released, self._released = self._released, defaultdict(Counter)
        batch = {queue: QueueBatch(found, released.pop(queue, {})) for queue, found in deliveries.items()}
        for queue, reasons in released.items():
            batch[queue] = QueueBatch((), reasons)
        failpoint.reach("before_commit")
        self._ledger.submit(batch)
        failpoint.reach("after_commit")
        self._under_way = True
        self._unwritten_since = None

    def completed(self) -> Mapping[str, Sequence[bool]] | LedgerError | None:
        """Return how the commit under way ended, once: what was new, by queue, or why it failed. None: not yet."""
        ended = self._ledger.completed()
        if ended is None or not self._under_way:
            return None
        self._under_way = False
        if ended.error is not None:
            self._fail(ended.error)
            return ended.error
        self._instrumentation.committed(ended.seconds)
        if not self.working:
            self._recovered()
        return ended.fresh or {}

    def keep(self, now: float, *, limited: bool = False, ending: bool = False) -> None:
        """Reopen what failed; write what no commit came for.

        `limited`: receives wait for commits to forget ids. `ending`: what was released is not kept waiting.
        """
        if self._under_way:
            return
        if self.working and self._ledger.problem is not None:
            self._fail(self._ledger.problem)  # a connection may be lost while nothing is committed
        if not self.working:
            self._reopen(now)
            return
        if limited:
            self._unwritten()
        wait_seconds = LIMITED_FLUSH_SECONDS if limited else FLUSH_SECONDS
        waited_seconds = 0.0 if self._unwritten_since is None else now - self._unwritten_since
        if waited_seconds >= wait_seconds or (ending and self._released):
            self.submit({})

    def _unwritten(self) -> None:
        if self._unwritten_since is None:
            self._unwritten_since = self._monotonic()

    def _reopen(self, now: float) -> None:
        problem = self._ledger.problem
        if problem is None:
            # To be read is not enough: without a commit that succeeds, messages would be taken only to be released.
            self.submit({})
        elif self._backoff.due(now):
            self._ledger.reopen()
            problem = self._ledger.problem
            if problem is not None and problem is self._at_first and now < self._connects_until:
                self._backoff.failed(now)
            elif problem is not None:
                self._fail(problem)

    def _recovered(self) -> None:
        self.working = True
        self._backoff.succeeded()
        self._readiness.clear("ledger")
        self._instrumentation.ledger_recovered()

    def _fail(self, error: LedgerError) -> None:
        self.working = False
        self._backoff.failed(self._monotonic())
        self._readiness.set("ledger", str(error))
        self._instrumentation.ledger_failed(error)
