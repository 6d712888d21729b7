"""The ledger on one machine: a SQLite file, one connection, one transaction a batch.

Message ids are random: a table keyed by them would dirty a page for each. So a commit appends one row a queue with all
its ids beside the changed totals; the index of ids lives in memory and is rebuilt from the rows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger import Completed, QueueIdentity, Snapshot
from exporter.ledger.series import Caps
from exporter.ledger.sqlite.copy import Backup
from exporter.ledger.sqlite.create import create, exists
from exporter.ledger.sqlite.file import LedgerFile, open_file
from exporter.ledger.sqlite.mark import Mark
from exporter.ledger.sqlite.schema import failure, failures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.ledger import Batch
    from exporter.ledger.sqlite.queue import Queue
    from exporter.ledger.sqlite.state import Change


@dataclass(slots=True)
class _Attempt:
    """A commit whose outcome is unknown until `reopen`."""

    seq: int
    changes: Mapping[str, Change]
    """What it was to write, by queue."""


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

        self._attempt: _Attempt | None = None
        self._completed: Completed | None = None
        self._wanted: dict[str, QueueIdentity] = {}
        self._refused: dict[str, LedgerError] = {}
        self.is_new = False
        """Whether the file was made by this object."""
        self.name = ""
        """See `Ledger.name`."""
        self.problem: LedgerError | None = None
        """See `Ledger.problem`."""
        self.commit_started_at: float | None = None
        """See `Ledger.commit_started_at`: a commit ends within `submit`, so it is another thread that sees one."""
        self.snapshots: Mapping[str, Snapshot] = MappingProxyType({})
        """See `Ledger.snapshots`."""
        self._closed = False
        self._backup: Backup | None = None
        self._file: LedgerFile | None = None
        self._mark: Mark | None = None
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
        mark = self._mark = Mark(self._path, instance_id)
        try:
            self._require_right_file(file, mark.committed)
            mark.move(file.last_seq)
            self.problem = None
            self._begin(file)
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

        `ended` is told on another thread where it is, or why there is none.
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
            raise self._problem_again()
        wall = float(self._wall_clock())
        changes: dict[str, Change] = {}
        fresh: dict[str, Sequence[bool]] = {}
        for name, of_queue in batch.items():
            changes[name], fresh[name] = self._queues[name].change(of_queue)
        for name, queue in self._queues.items():
            if name not in changes and (queue.waits() if batch else queue.waits_for_a_flush(wall)):
                changes[name], _ = queue.change(None)
        self._commit(self._file, changes, wall)
        return fresh

    def _commit(self, file: LedgerFile, changes: Mapping[str, Change], wall: float) -> None:
        if not changes:
            return
        self._attempt = _Attempt(file.last_seq + len(changes), changes)
        try:
            pages = file.commit(changes, wall)
        except BaseException as error:
            self._failed(error)
            raise
        self._attempt = None
        if self._mark is not None:
            self._mark.move(file.last_seq)
        self.snapshots = self._all_snapshots()
        self.problem = file.database.checkpoint_after(pages)

    def _failed(self, error: BaseException) -> None:
        if self._attempt is not None:
            for name in self._attempt.changes:
                self._queues[name].uncounted = Counter()  # the attempt has them
        self.problem = error if isinstance(error, LedgerError) else failure(self._path, "io_error", repr(error))

    def _take_up(self, file: LedgerFile, identity: QueueIdentity) -> None:
        name = identity.name
        queue = self._queues.get(name) or file.add_queue(name)
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

    def _begin(self, file: LedgerFile) -> None:
        """Show what is to be shown from the start."""
        queues = {name: self._queues.get(name) or file.add_queue(name) for name in self._names}
        changes = {name: queue.begin(self._caps.shown_keys(), None) for name, queue in queues.items()}
        self._commit(file, {name: change for name, change in changes.items() if change}, float(self._wall_clock()))

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
        if file.identity.instance_id != self._instance_id or file.is_behind(self._queues):
            file.database.close()
            raise failure(self._path, "io_error", "it is not the file that it was")
        self._account_for_attempt(file)
        for name, before in self._queues.items():
            (file.queues.get(name) or file.add_queue(name)).go_on_from(before)
        self._file, self._queues, self.problem = file, file.queues, None
        self._mark = Mark(self._path, self._instance_id)
        self._mark.move(file.last_seq)
        try:
            with file.database.transaction() as connection:
                # To be read is not enough: without a commit that succeeds, messages would be taken to be released.
                connection.execute("UPDATE ledger SET checksum = checksum")
            self._begin(file)
        except LedgerError as error:
            self._failed(error)
            raise
        self.snapshots = self._all_snapshots()
        self._take_up_again()

    def _take_up_again(self) -> None:
        for identity in self._wanted.values():
            if self._file is not None and self.problem is None:
                self._take_up(self._file, identity)

    def _account_for_attempt(self, file: LedgerFile) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        for name, change in attempt.changes.items():
            queue = self._queues[name]
            if attempt.seq <= file.last_seq:
                queue.written_after_all(change)
                continue
            queue.uncounted.update(change.released)
            if change.received:
                queue.uncounted["commit_failed"] += change.received

    def _require_right_file(self, file: LedgerFile, committed: int) -> None:
        if self._name not in {None, self.name}:
            raise failure(self._path, "other_name", f"is named {self.name}, not {self._name}")
        if file.last_seq < committed:
            raise failure(self._path, "lost_commits", f"it holds {file.last_seq} of at least {committed}")

    def _disconnect(self) -> None:
        if self._mark is not None:
            self._mark.close()
        if self._backup is not None:
            self._backup.stop()
        if self._file is not None:
            self._file.database.close()
            self._file = None
            self.problem = self.problem or failure(self._path, "unreadable", "it is closed")

    def _problem_again(self) -> LedgerError:
        found = self.problem or failure(self._path, "unreadable", "it is closed")
        return LedgerError(found.reason, str(found))

    def _all_snapshots(self) -> Mapping[str, Snapshot]:
        return MappingProxyType({name: queue.state.snapshot for name, queue in self._queues.items()})
