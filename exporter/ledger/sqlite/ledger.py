"""The ledger on one machine: a SQLite file, one connection, one transaction a batch.

Message ids are random: a table keyed by them would dirty a page for each. So a commit appends one row with all its ids
beside the changed totals; the index of ids lives in memory and is rebuilt from the rows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger import OTHER_TYPE, QueueIdentity, Snapshot, failpoint
from exporter.ledger.room import Room
from exporter.ledger.sqlite.database import Database
from exporter.ledger.sqlite.mark import Mark
from exporter.ledger.sqlite.memory import Limits, Moment
from exporter.ledger.sqlite.schema import create, exists, failure, failures_of
from exporter.ledger.sqlite.state import Batch, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.ledger import Delivery

MAX_RETENTION_SECONDS = 14 * 24 * 3600
LONGEST_STEP_SECONDS = 2.0


@dataclass(slots=True)
class _Attempt:
    """A commit whose outcome is unknown until `reopen`."""

    seq: int
    settled: int
    """How many of the settled ids it wrote."""
    uncounted: Counter[str]
    """What is left to account for if it is not on disk."""


class SqliteLedger:
    """`exporter.ledger.Ledger` in a SQLite file; opening it raises LedgerError.

    `types` are shown at 0 from the start and don't use up `max_types`. Ids are remembered for `window_seconds` (at
    least twice the visibility timeout), `max_ids` of them at most if the caller keeps to `capacity`.
    """

    def __init__(  # noqa: PLR0913 - plain values, by name
        self,
        path: str,
        *,
        queue_name: str,
        types: Sequence[str] = (),
        max_types: int = 200,
        window_seconds: float = 3600,
        max_ids: int = 2_000_000,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        lock_timeout_seconds: float = 10,
    ) -> None:
        self._path = os.path.realpath(path)
        self._queue_name = queue_name
        self._shown = frozenset((*types, OTHER_TYPE))
        self._max_series = max_types + len(self._shown)
        self._max_ids = max_ids
        self._window_seconds = window_seconds
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._lock_timeout_seconds = lock_timeout_seconds

        self._limits: Limits | None = None
        self._settled: list[bytes] = []
        self._uncounted: Counter[str] = Counter()
        self._attempt: _Attempt | None = None
        self._room = Room(max_ids)
        self._passed_at = monotonic()
        """Up to when time was let pass, monotonic."""
        self._advanced_seconds = 0.0
        """By how much the clock advanced since."""
        with failures_of(self._path):
            self.is_new = create(self._path, float(wall_clock()))
            """Whether the file was made by this call."""
        self._failure: LedgerError | None = None
        self._database: Database | None
        self._database, self._state = self._open()
        self._mark = Mark(self._path, self._state.snapshot.instance_id)
        self._clock_seconds, self._paused_seconds = self._state.queue.clock_seconds, self._state.queue.paused_seconds
        try:
            self._require_all_commits()
            self._begin_series()
        except BaseException:
            self._disconnect()
            raise

    @property
    def snapshot(self) -> Snapshot:
        """See `Ledger.snapshot`."""
        return self._state.snapshot

    @property
    def limited(self) -> str | None:
        """See `Ledger.limited`."""
        if self._limits is None or not self._room.short:
            return None
        messages_per_second = self._max_ids / self._limits.protected_seconds
        return (
            f"receives are slowed down to what --ledger.max-ids {self._max_ids} can remember for twice the visibility "
            f"timeout, about {messages_per_second:,.0f} messages a second, fewer while deletes fail: raise it"
        )

    @property
    def capacity(self) -> int:
        """See `Ledger.capacity`."""
        self._let_time_pass()
        return self._room.capacity

    def bind(self, queue: QueueIdentity) -> None:
        """See `Ledger.bind`."""
        bound_arn = self._state.snapshot.queue_arn
        if queue.name != self._queue_name or bound_arn not in {None, queue.arn}:
            detail = f"belongs to the queue {bound_arn or self._queue_name}, not to {queue.arn}"
            raise failure(self._path, "other_queue", detail)
        protected_seconds = 2.0 * queue.visibility_timeout_seconds
        self._limits = Limits(
            window_seconds=max(self._window_seconds, protected_seconds),
            protected_seconds=protected_seconds,
            retention_seconds=queue.retention_seconds or MAX_RETENTION_SECONDS,
            max_ids=self._max_ids,
        )
        self._room.protected_seconds = protected_seconds
        if bound_arn is None:
            self._commit(Batch(arn=queue.arn))

    def advance(self, seconds: float) -> None:
        """See `Ledger.advance`."""
        self._clock_seconds += seconds
        self._advanced_seconds += seconds

    def record(self, deliveries: Sequence[Delivery], released: Mapping[str, int]) -> list[bool]:
        """See `Ledger.record`."""
        if self._failure is not None:
            self._uncounted.update(released)
            self._uncounted["ledger_unavailable"] += len(deliveries)
            raise self._failure_again()
        ids = [delivery.message_id for delivery in deliveries]
        renewed = self._state.memory.known(ids)
        if not renewed and len(set(ids)) == len(ids):
            self._commit(Batch(len(ids), [delivery.outcome for delivery in deliveries], ids, released=released))
            return [True] * len(ids)
        seen = set(renewed)
        fresh = []
        ids = []
        outcomes = []
        for delivery in deliveries:
            message_id = delivery.message_id
            is_fresh = message_id not in seen
            fresh.append(is_fresh)
            if is_fresh:
                seen.add(message_id)
                ids.append(message_id)
                outcomes.append(delivery.outcome)
        self._commit(Batch(len(deliveries), outcomes, ids, renewed, released))
        return fresh

    def settle(self, message_ids: Iterable[bytes]) -> None:
        """See `Ledger.settle`."""
        self._settled += self._state.memory.settle(message_ids)

    def flush(self) -> None:
        """See `Ledger.flush`."""
        state = self._state
        changed = self._settled or self._uncounted or self._clock_seconds != state.queue.clock_seconds
        if changed or self._failure or (self._limits and state.memory.prunable(self._now(), self._limits)):
            self._commit(Batch())

    def reopen(self) -> None:
        """See `Ledger.reopen`."""
        self._disconnect()
        with failures_of(self._path):
            if not exists(self._path):
                raise failure(self._path, "io_error", "it is gone")
        before = self._state
        database, state = self._open()
        if state.snapshot.instance_id != before.snapshot.instance_id or state.queue.seq < before.queue.seq:
            database.close()
            raise failure(self._path, "io_error", "it is not the file that it was")
        self._database, self._state, self._failure = database, state, None
        self._mark = Mark(self._path, state.snapshot.instance_id)
        self._mark.move(state.next_seq - 1)
        attempt, self._attempt = self._attempt, None
        if attempt and attempt.seq > state.queue.seq:
            self._uncounted.update(attempt.uncounted)
        elif attempt:
            del self._settled[: attempt.settled]
        self._settled = state.memory.settle(self._settled)
        self._begin_series()

    def close(self) -> None:
        """See `Ledger.close`."""
        try:
            if self._database is not None and self._failure is None:
                self.flush()
        finally:
            self._disconnect()

    def _open(self) -> tuple[Database, State]:
        database = Database(self._path, self._lock_timeout_seconds)
        room = Room(self._max_ids)
        room.protected_seconds = self._limits.protected_seconds if self._limits else 0.0
        try:
            failpoint.reach("at_open")
            with failures_of(self._path):
                state = State(database.connection, self._queue_name, room)
        except BaseException:
            database.close()
            raise
        self._room = room
        return database, state

    def _require_all_commits(self) -> None:
        held, marked = self._state.next_seq - 1, self._mark.committed
        if held < marked:
            raise failure(self._path, "lost_commits", f"it holds {held} of at least {marked}")
        self._mark.move(held)

    def _disconnect(self) -> None:
        self._mark.close()
        if self._database is not None:
            self._database.close()
            self._database = None
            self._failure = self._failure or failure(self._path, "unreadable", "it is closed")

    def _begin_series(self) -> None:
        begin = sorted(self._shown.difference(self._state.snapshot.types))
        if begin:
            self._commit(Batch(begin=begin))

    def _commit(self, batch: Batch) -> None:
        if self._failure is not None or self._database is None:
            raise self._failure_again()
        uncounted, self._uncounted = self._uncounted, Counter()
        uncounted.update(batch.released)
        batch.released, batch.settled = uncounted, self._settled
        lost = uncounted + Counter(commit_failed=batch.received)
        self._attempt = _Attempt(self._state.next_seq, len(self._settled), lost)
        try:
            with self._database.transaction() as connection:
                written = self._state.write(connection, batch, self._now(), self._limits, self._max_series)
            self._state.take(written)
        except BaseException as error:
            self._failure = error if isinstance(error, LedgerError) else failure(self._path, "io_error", repr(error))
            raise
        self._mark.move(written.row.seq)
        self._attempt = None
        self._settled = []
        self._let_time_pass()
        self._failure = self._database.checkpoint_after(written.pages)

    def _failure_again(self) -> LedgerError:
        found = self._failure or failure(self._path, "unreadable", "it is closed")
        return LedgerError(found.reason, str(found))

    def _now(self) -> Moment:
        self._let_time_pass()
        return Moment(self._clock_seconds, self._paused_seconds, float(self._wall_clock()))

    def _let_time_pass(self) -> None:
        """Where receives are slowed down, let ids grow older in the time without receives, too.

        A step that is longer than the loop's own means that the process was stopped: it saw nothing that came back.
        """
        if self._limits is None:
            return
        now = self._monotonic()
        if self._room.spread:
            elapsed_seconds = min(now - self._passed_at, LONGEST_STEP_SECONDS)
            self._paused_seconds += max(0.0, elapsed_seconds - self._advanced_seconds)
        self._passed_at, self._advanced_seconds = now, 0.0
        memory = self._state.memory
        self._room.pass_time(self._clock_seconds + self._paused_seconds, len(memory), memory.unsettled)
