"""The ledger of one replica, behind the ledger's contract: what runs over its connection, and what comes next."""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING

from exporter.backoff import Backoff
from exporter.errors import LedgerError
from exporter.ledger import Completed
from exporter.ledger.postgres.commits import Commit, run
from exporter.ledger.postgres.connection import PostgresError
from exporter.ledger.postgres.problems import ledger_error
from exporter.ledger.postgres.pruning import Limits, prune
from exporter.ledger.postgres.queue import Queue
from exporter.ledger.postgres.replica import Replica
from exporter.ledger.postgres.session import Session
from exporter.ledger.postgres.speaker import Lease, boottime
from exporter.ledger.postgres.target import Target
from exporter.ledger.series import Caps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.ledger import Batch, QueueIdentity, Snapshot
    from exporter.ledger.postgres.flow import Flow

FINISH_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.1
"""How soon it is noticed that the host was looked up."""


class PostgresLedger:
    """`exporter.ledger.Ledger` in PostgreSQL, for one replica of several. Connects by itself, when it is polled.

    `types` are shown at 0 from the start and don't use up `max_types`. Message ids are remembered for `window_seconds`
    (at least twice the visibility timeout), event ids for `id_window_seconds`, about `max_ids` of them a queue at most.
    `target.resolve` has to be called by a thread that may wait, unless the URL's host is an address.
    """

    def __init__(  # noqa: PLR0913 - plain values, by name
        self,
        url: str,
        *,
        name: str | None = None,
        types: Sequence[str] = (),
        label_names: Sequence[str] = (),
        max_types: int = 200,
        max_series: int = 1000,
        window_seconds: float = 3600,
        id_window_seconds: float | None = None,
        max_ids: int = 2_000_000,
        boottime_clock: Callable[[], float] = boottime,
    ) -> None:
        self.target = Target(url)
        self._limits = Limits(window_seconds, id_window_seconds or window_seconds, max_ids)
        caps = Caps(max_types, max_series, frozenset(types), tuple(label_names))
        self._replica = Replica(name or "", caps, window_seconds, Lease(boottime_clock))
        self._commit: Commit | None = None
        self._completed: Completed | None = None
        self._session: Session | None = None
        self._problem: LedgerError | None = LedgerError("unavailable", f"connecting to PostgreSQL at {self.target}")
        self._backoff = Backoff()
        self._opened = False
        self._closed = False
        self._pruned_last = False

    @property
    def name(self) -> str:
        """The ledger's own name; until it was opened once the one that was asked for, or empty."""
        return self._replica.selected.name if self._replica.selected else self._replica.wanted_name

    @property
    def speaker(self) -> bool:
        """Whether this replica is the one that shows what the ledger keeps, now. Any thread may ask."""
        return self._replica.speaker

    @property
    def speaking_since_seconds(self) -> float:
        """Since when it is, Unix time on the database's clock, on which series are created, too."""
        return self._replica.lease.since_seconds

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """What was committed by all replicas, by queue; empty where another replica shows it."""
        return self._replica.snapshots

    @property
    def problem(self) -> LedgerError | None:
        """Why nothing can be committed now."""
        return self._problem

    @property
    def commit_started_at(self) -> float | None:
        """When the commit under way was submitted."""
        return self._commit.started_at if self._commit else None

    def bind(self, queue: QueueIdentity) -> None:
        """Ask that the queue be taken up, or that its attributes be noted."""
        known = self._replica.queues.get(queue.name)
        if known is None:
            self._replica.queues[queue.name] = Queue(queue)
        elif known.identity != queue:
            known.identity = queue
            known.asked = True

    def bound(self, queue: str) -> bool:
        """Whether deliveries of this queue may be submitted; raises LedgerError("other_queue")."""
        known = self._replica.queues.get(queue)
        if known is not None and known.error is not None:
            raise known.error
        return known is not None and known.id is not None

    def capacity(self, queue: str) -> int:
        """Return how many more messages of this queue may be taken: this replica's share of what is free."""
        known = self._replica.queues.get(queue)
        return self._limits.capacity(known) if known else 0

    def limited(self, queue: str) -> str | None:
        """Return why this queue's receives are slowed down."""
        known = self._replica.queues.get(queue)
        return self._limits.limited(known) if known else None

    def advance(self, queue: str, seconds: float) -> None:
        """Let the queue's clock run."""
        known = self._replica.queues.get(queue)
        if known is not None:
            known.receiving_seconds += seconds

    def settle(self, queue: str, message_ids: Iterable[bytes]) -> None:
        """Mark messages as gone from the queue. Written with a later commit."""
        known = self._replica.queues.get(queue)
        if known is not None:
            known.settled.update(dict.fromkeys(message_ids))

    def submit(self, batch: Batch) -> None:
        """Begin a commit, at once if nothing else is under way."""
        if self._problem is not None:
            self._release(batch, "ledger_unavailable")
            self._completed = Completed(None, self._problem, 0.0)
            return
        self._commit = Commit(batch, time.monotonic())
        self._move()

    def completed(self) -> Completed | None:
        """Go on with whatever is under way, and return the end of the commit if it has come."""
        self._move()
        completed, self._completed = self._completed, None
        return completed

    def reopen(self) -> None:
        """Begin to connect at once, where that is not under way."""
        if self._session is None and not self._closed:
            self._connect()

    def descriptor(self) -> tuple[int, int] | None:
        """Return what to wait for."""
        return self._session.descriptor() if self._session else None

    def deadline(self) -> float | None:
        """Return when `completed` has something to do even if the descriptor is silent."""
        if self._closed:
            return None
        now = time.monotonic()
        if self._completed is not None:
            return now
        if self._session is None:
            return max(self._backoff.due_at, now + _LOOK_AGAIN_SECONDS if self.target.unresolved else now)
        if self._session.busy:
            return self._session.deadline()
        beat_at, read_at = self._replica.beat_at, self._replica.read_at
        return beat_at if read_at is None else min(beat_at, read_at)

    def finish(self) -> None:
        """Write what waits and read what all replicas committed, as far as that is possible within a second."""
        if self._problem is None and self._session is not None:
            if self._commit is None:
                self._commit = Commit({}, time.monotonic())
            self._drive(time.monotonic() + FINISH_SECONDS)

    def close(self) -> None:
        """Finish, give the lease back and close. Safe to call twice."""
        if self._closed:
            return
        self.finish()
        if self._problem is None and self._session is not None and not self._session.busy:
            with contextlib.suppress(PostgresError):  # the lease ends by itself
                self._session.begin(self._replica.leave())
            self._drive(time.monotonic() + FINISH_SECONDS)
        self._replica.lease.give_up()
        self._closed = True
        if self._session is not None:
            self._session.close()
            self._session = None

    def _drive(self, give_up_at: float) -> None:
        """Wait until nothing is under way: only at the end of the process."""
        self._replica.beat_at = float("inf")
        while True:
            self._move()
            if self._session is None or time.monotonic() >= give_up_at or not (self._session.busy or self._commit):
                return
            descriptor = self.descriptor()
            if descriptor is not None:
                poll = select.poll()
                poll.register(*descriptor)
                poll.poll(50)

    def _connect(self) -> None:
        if self.target.unresolved:
            if self.target.problem is not None:
                self._problem = self.target.problem
            return
        try:
            self._session = Session(self.target.conninfos())
        except PostgresError as error:
            self._fail(ledger_error(error.sqlstate, str(error), str(self.target)))
            return
        self._opened = False
        self._session.begin(self._replica.open())

    def _move(self) -> None:
        """Go on as far as that is possible without waiting."""
        if self._closed:
            return
        if self._session is None and self._backoff.due(time.monotonic()):
            self._connect()
        try:
            while self._session is not None:
                self._session.step()
                if self._session.busy:
                    break
                self._end()
                flow = self._next()
                if flow is None:
                    break
                self._session.begin(flow)
        except PostgresError as error:
            self._fail(ledger_error(error.sqlstate, str(error), str(self.target)))
        except LedgerError as error:
            self._fail(error)

    def _end(self) -> None:
        """Take in what has ended: opening, or the commit."""
        if not self._opened:
            self._opened = True
            self._problem = None
            self._backoff.succeeded()
        commit = self._commit
        if commit is not None and commit.done:
            self._commit = None
            self._completed = Completed(commit.fresh, None, commit.seconds)

    def _next(self) -> Flow[None] | None:
        """Choose what to do on an idle connection: the lease first, then commits and pruning alternate."""
        replica = self._replica
        now = time.monotonic()
        if now >= replica.beat_at:
            return replica.beat()
        for queue in replica.queues.values():
            if queue.asked:
                return replica.bind(queue)
        if self._commit is not None and (self._pruned_last or not replica.to_prune):
            self._pruned_last = False
            return run(replica, self._commit)
        if replica.to_prune:
            self._pruned_last = True
            name = next(iter(replica.to_prune))
            del replica.to_prune[name]
            return prune(replica, replica.queues[name], self._limits)
        if replica.read_at is not None and now >= replica.read_at:
            return replica.read()
        return None

    def _fail(self, error: LedgerError) -> None:
        """Give the connection up. What became of the commit under way is not known until it was asked."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._problem = error
        self._backoff.failed(time.monotonic())
        commit, self._commit = self._commit, None
        if commit is not None:
            self._replica.unknown += commit.chunks
            if not commit.begun:
                self._release(commit.batch, "commit_failed")
            self._completed = Completed(None, error, commit.seconds)

    def _release(self, batch: Batch, reason: str) -> None:
        for name, of_queue in batch.items():
            uncounted = self._replica.queues[name].uncounted
            uncounted.update(of_queue.released)
            if of_queue.deliveries:
                uncounted[reason] += len(of_queue.deliveries)
