"""The ledger on one machine: a SQLite file, one connection, one transaction a batch.

Message ids are random: a table keyed by them would dirty a page for each. So a commit appends one row a queue with all
its ids beside the changed totals; the index of ids lives in memory and is rebuilt from the rows.
"""

from __future__ import annotations

import os
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger import Completed, QueueIdentity, Snapshot
from exporter.ledger.series import Caps
from exporter.ledger.sqlite.attempt import Attempt
from exporter.ledger.sqlite.copy import Backup
from exporter.ledger.sqlite.create import create, exists
from exporter.ledger.sqlite.file import LedgerFile, open_file
from exporter.ledger.sqlite.schema import failure, failures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.ledger import Batch
    from exporter.ledger.sqlite.queue import Queue
    from exporter.ledger.sqlite.state import Change


class SqliteLedger:
    """`exporter.ledger.Ledger` in a SQLite file; opening it raises LedgerError.

    A full volume is a `problem` rather than an error: `reopen` goes on when there is space.

    `name` is the ledger's own: it is given when the file is made, or migrated, and has to stay; None takes it as it is.
    `queues` are shown from the start, before they are bound. `types` are shown at 0 and don't use up `max_types`.
    Messages' ids are remembered for `window_seconds`, events' own for `id_window_seconds` (None: as long), both for at
    least twice the visibility timeout; `max_ids` of them at most if the caller keeps to `capacity`. `opened_late` is
    called once, by `reopen`, where the volume was full at first and the ledger could be opened only then.
    """

    speaker = True
    """Nobody else has the file."""
    speaking_since_seconds = 0.0

    def __init__(  # noqa: PLR0913 - plain values, by name
        self,
        path: str,
        *,
        name: str | None = None,
        queues: Sequence[str] = (),
        types: Sequence[str] = (),
        max_types: int = 200,
        label_names: Sequence[str] = (),
        max_series: int = 1_000,
        window_seconds: float = 3600,
        id_window_seconds: float | None = None,
        max_ids: int = 2_000_000,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        lock_timeout_seconds: float = 10,
        opened_late: Callable[[SqliteLedger], None] = lambda _ledger: None,
    ) -> None:
        self._path = os.path.realpath(path)
        self._name = name
        self._names = tuple(queues)
        self._caps = Caps(max_types, max_series, frozenset(types), tuple(label_names))
        self._max_ids = max_ids
        self._window_seconds = window_seconds
        self._id_window_seconds = window_seconds if id_window_seconds is None else id_window_seconds
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._lock_timeout_seconds = lock_timeout_seconds
        self._opened_late = opened_late

        self._attempt: Attempt | None = None
        self._completed: Completed | None = None
        self._wanted: dict[str, QueueIdentity] = {}
        self._refused: dict[str, LedgerError] = {}
        self.is_new = False
        """Whether the file was made by this object."""
        # What the contract has as properties:
        self.name = ""
        self.problem: LedgerError | None = None
        self.commit_started_at: float | None = None
        """A commit ends within `submit`, so it is another thread that sees one."""
        self.snapshots: Mapping[str, Snapshot] = MappingProxyType({})
        self._closed = False
        self._backup: Backup | None = None
        self._file: LedgerFile | None = None
        self._instance_id: str | None = None
        self._queues: dict[str, Queue] = {}
        try:
            self._open_first()
        except LedgerError as error:
            if error.reason != "full":
                raise
            self.problem = error

    def _open_first(self) -> None:
        """Open the file, or make it, and show what is to be shown from the start."""
        with failures_of(self._path):
            self.is_new = create(self._path, self._name, float(self._wall_clock())) or self.is_new
        file = self._open()
        self._file, self._queues = file, file.queues
        instance_id, self.name, _ = file.identity
        try:
            file.require(self._name)
            self.problem = None
            self._commit(file, file.begin(self._names), float(self._wall_clock()))
        except BaseException:
            self._disconnect()
            self._attempt, self._queues = None, {}
            raise
        self._instance_id = instance_id
        self.snapshots = self._all_snapshots()

    def bind(self, queue: QueueIdentity) -> None:
        """See `Ledger.bind`."""
        self._wanted[queue.name] = queue
        self._refused.pop(queue.name, None)
        if self._file is not None and self.problem is None:
            self._take_up(self._file, queue)

    def bound(self, queue: str) -> bool:
        """See `Ledger.bound`."""
        if queue in self._refused:
            raise LedgerError("other_queue", str(self._refused[queue]))
        found = self._queues.get(queue)
        return found is not None and found.limits is not None and found.state.queue.arn is not None

    def limited(self, queue: str) -> str | None:
        """See `Ledger.limited`."""
        found = self._queues.get(queue)
        return None if found is None else found.limited()

    def capacity(self, queue: str) -> int:
        """See `Ledger.capacity`."""
        found = self._queues.get(queue)
        return 0 if found is None else found.capacity()

    def advance(self, queue: str, seconds: float) -> None:
        """See `Ledger.advance`."""
        self._queues[queue].advance(seconds)

    def settle(self, queue: str, message_ids: Iterable[bytes]) -> None:
        """See `Ledger.settle`."""
        self._queues[queue].settle(message_ids)

    def submit(self, batch: Batch) -> None:
        """See `Ledger.submit`."""
        started = time.perf_counter()
        self.commit_started_at = self._monotonic()
        fresh, error = None, None
        try:
            fresh = self._submit(batch)
        except LedgerError as failed:
            error = failed
        self.commit_started_at = None
        self._completed = Completed(fresh, error, time.perf_counter() - started)

    def completed(self) -> Completed | None:
        """See `Ledger.completed`."""
        completed, self._completed = self._completed, None
        return completed

    def descriptor(self) -> None:
        """See `Ledger.descriptor`: there is nothing to wait for."""

    def deadline(self) -> None:
        """See `Ledger.deadline`: there is none."""

    def reopen(self) -> None:
        """See `Ledger.reopen`: it is done, or has failed, when this returns."""
        try:
            self._reopen()
        except LedgerError as error:
            self.problem = error

    def back_up(self, ended: Callable[[str, LedgerError | None], None]) -> bool:
        """Begin to write `<path>.backup` beside the work; False where one is being written, or the ledger is not open.

        `ended` is told where it is, or why there is none: on another thread, unless that could not be started.
        """
        if self._file is None or self.problem is not None or (self._backup is not None and self._backup.running):
            return False
        self._backup = Backup(self._file.database.connection, f"{self._path}.backup", ended)
        return True

    def close(self) -> None:
        """See `Ledger.close`. Raises LedgerError where what waits can't be written."""
        try:
            if self._file is not None and self.problem is None:
                self._submit({})
        finally:
            self._closed = True
            self._disconnect()

    def _submit(self, batch: Batch) -> dict[str, Sequence[bool]]:
        if self.problem is not None or self._file is None:
            for name, of_queue in batch.items():
                uncounted = self._queues[name].uncounted
                uncounted.update(of_queue.released)
                uncounted["ledger_unavailable"] += len(of_queue.deliveries)
            problem = self.problem or failure(self._path, "unreadable", "it is closed")
            raise LedgerError(problem.reason, str(problem))
        wall = float(self._wall_clock())
        changes, fresh = self._file.changes_of(batch, wall)
        self._commit(self._file, changes, wall)
        return fresh

    def _commit(self, file: LedgerFile, changes: Mapping[str, Change], wall: float) -> None:
        if not changes:
            return
        self._attempt = Attempt(file.last_seq + len(changes), changes)
        try:
            pages = file.commit(changes, wall)
        except BaseException as error:
            self._failed(error)
            raise
        self._attempt = None
        self.snapshots = self._all_snapshots()
        self.problem = file.database.checkpoint_after(pages)

    def _failed(self, error: BaseException) -> None:
        if self._attempt is not None:
            self._attempt.failed(self._queues)
        self.problem = error if isinstance(error, LedgerError) else failure(self._path, "io_error", repr(error))

    def _take_up(self, file: LedgerFile, identity: QueueIdentity) -> None:
        name = identity.name
        queue = file.queue(name)
        arn = queue.state.queue.arn
        if arn not in {None, identity.arn}:
            detail = f"belongs to the queue {arn}, not to {identity.arn}"
            self._refused[name] = failure(self._path, "other_queue", detail)
            return
        queue.limit(identity, self._window_seconds, self._id_window_seconds, self._max_ids)
        change = queue.begin(self._caps.shown_keys(), identity.arn)
        if change is None:
            return
        try:
            self._commit(file, {name: change}, float(self._wall_clock()))
        except LedgerError:
            return  # it is the problem, and after it the queue is taken up again

    def _open(self) -> LedgerFile:
        return open_file(self._path, self._name, self._caps, self._max_ids, self._monotonic, self._lock_timeout_seconds)

    def _reopen(self) -> None:
        self._disconnect()
        if self._closed:
            raise failure(self._path, "unreadable", "it is closed")
        if self._instance_id is None:
            self._open_first()
            self._opened_late(self)
            self._take_up_again()
            return
        with failures_of(self._path):
            if not exists(self._path):
                raise failure(self._path, "io_error", "it is gone")
        file = self._open()
        file.go_on_from(self._instance_id, self._queues, self._attempt)
        self._attempt = None
        self._file, self._queues, self.problem = file, file.queues, None
        file.open_mark().move(file.last_seq)
        try:
            with file.database.transaction() as connection:
                # To be read is not enough: without a commit that succeeds, messages would be taken to be released.
                connection.execute("UPDATE ledger SET checksum = checksum")
            self._commit(file, file.begin(self._names), float(self._wall_clock()))
        except LedgerError as error:
            self._failed(error)
            raise
        self.snapshots = self._all_snapshots()
        self._take_up_again()

    def _take_up_again(self) -> None:
        for identity in self._wanted.values():
            if self._file is not None and self.problem is None:
                self._take_up(self._file, identity)

    def _disconnect(self) -> None:
        if self._backup is not None:
            self._backup.stop()
        if self._file is not None:
            self._file.close()
            self._file = None
            self.problem = self.problem or failure(self._path, "unreadable", "it is closed")

    def _all_snapshots(self) -> Mapping[str, Snapshot]:
        return MappingProxyType({name: queue.state.snapshot for name, queue in self._queues.items()})
