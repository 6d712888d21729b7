"""The ledger on one machine: a SQLite file, one connection, one transaction a batch.

Message ids are random: a table keyed by them would dirty a page for each. So a commit appends one row with all its ids
beside the changed totals; the index of ids lives in memory and is rebuilt from the rows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger import OTHER_TYPE, QueueIdentity, Snapshot, failpoint
from exporter.ledger.sqlite.database import Database
from exporter.ledger.sqlite.memory import Limits, Moment
from exporter.ledger.sqlite.schema import create, failure, failures_of
from exporter.ledger.sqlite.state import Batch, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.ledger import Delivery

MAX_RETENTION_SECONDS = 14 * 24 * 3600


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
    least twice the visibility timeout), about `max_ids` of them at most.
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
        self._paused_since: float | None = None
        with failures_of(self._path):
            self.is_new = create(self._path, float(wall_clock()))
            """Whether the file was made by this call."""
        self._failure: LedgerError | None = None
        self._database: Database | None
        self._database, self._state = self._open()
        self._clock_seconds, self._paused_seconds = self._state.queue.clock_seconds, self._state.queue.paused_seconds
        try:
            self._begin_series()
        except BaseException:
            self._disconnect()
            raise

    @property
    def snapshot(self) -> Snapshot:
        """See `Ledger.snapshot`."""
        return self._state.snapshot

    @property
    def paused(self) -> str | None:
        """See `Ledger.paused`."""
        if self._paused_since is None:
            return None
        return (
            f"the ledger remembers {len(self._state.memory)} messages, more than --ledger.max-ids {self._max_ids}, "
            "and the oldest are unsettled or younger than twice the visibility timeout: raise it, or wait"
        )

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
        if bound_arn is None:
            self._commit(Batch(arn=queue.arn))

    def advance(self, seconds: float) -> None:
        """See `Ledger.advance`."""
        self._clock_seconds += seconds
        if self._paused_since is not None:
            self._paused_since += seconds

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
        if not Path(self._path).exists():
            raise failure(self._path, "io_error", "it is gone")
        before = self._state
        database, state = self._open()
        if state.snapshot.instance_id != before.snapshot.instance_id or state.queue.seq < before.queue.seq:
            database.close()
            raise failure(self._path, "io_error", "it is not the file that it was")
        self._database, self._state, self._failure = database, state, None
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
        try:
            failpoint.reach("at_open")
            with failures_of(self._path):
                return database, State(database.connection, self._queue_name)
        except BaseException:
            database.close()
            raise

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
            self._failure = self._failure or failure(self._path, "unreadable", "it is closed")

    def _begin_series(self) -> None:
        begin = sorted(self._shown.difference(self._state.snapshot.types))
        if begin:
            self._commit(Batch(begin=begin))
        self._judge_room()

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
        self._attempt = None
        self._settled = []
        self._judge_room()
        self._failure = self._database.checkpoint_after(written.pages)

    def _failure_again(self) -> LedgerError:
        found = self._failure or failure(self._path, "unreadable", "it is closed")
        return LedgerError(found.reason, str(found))

    def _now(self) -> Moment:
        paused_seconds = self._paused_seconds
        if self._paused_since is not None:
            paused_seconds += max(0.0, self._monotonic() - self._paused_since)
        return Moment(self._clock_seconds, paused_seconds, float(self._wall_clock()))

    def _judge_room(self) -> None:
        full = len(self._state.memory) > self._max_ids
        if full and self._paused_since is None:
            self._paused_since = self._monotonic()
        elif not full and self._paused_since is not None:
            self._paused_seconds = self._now().paused_seconds
            self._paused_since = None
