"""A ledger's file while it is open: its own row and its queues as they were read, its commits and its mark."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING

from exporter.ledger import failpoint
from exporter.ledger.intake import IntakeLimit
from exporter.ledger.sqlite import event_memory, memory
from exporter.ledger.sqlite.database import Database
from exporter.ledger.sqlite.mark import Mark
from exporter.ledger.sqlite.queue import Queue
from exporter.ledger.sqlite.queue_row import Identity, QueueRow, new_queue, read_identity, read_queues
from exporter.ledger.sqlite.schema import failure, failures_of
from exporter.ledger.sqlite.state import State
from exporter.ledger.sqlite.total_rows import read_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exporter.ledger import Batch
    from exporter.ledger.series import Caps
    from exporter.ledger.sqlite.attempt import Attempt
    from exporter.ledger.sqlite.event_memory import EventRow
    from exporter.ledger.sqlite.memory import Row
    from exporter.ledger.sqlite.state import Change


@dataclass(slots=True)
class LedgerFile:
    """An open ledger, and what it holds as of its last commit."""

    path: str
    database: Database
    identity: Identity
    caps: Caps
    max_ids: int
    monotonic: Callable[[], float]
    last_seq: int = 0
    """The sequence number of the last commit of any queue."""
    queues: dict[str, Queue] = field(default_factory=dict)
    _mark: Mark | None = None

    def open_mark(self) -> Mark:
        """Open the mark beside it; from now on each commit moves it."""
        self._mark = Mark(self.path, self.identity.instance_id)
        return self._mark

    def require(self, name: str | None) -> None:
        """Raise LedgerError where the ledger has another name (None: any is right), or lost commits; open its mark."""
        if name not in {None, self.identity.name}:
            raise failure(self.path, "other_name", f"is named {self.identity.name}, not {name}")
        mark = self.open_mark()
        if self.last_seq < mark.committed:
            raise failure(self.path, "lost_commits", f"it holds {self.last_seq} of at least {mark.committed}")
        mark.move(self.last_seq)

    def queue(self, name: str) -> Queue:
        """Return a queue; a new one has a row from its first commit on."""
        if name in self.queues:
            return self.queues[name]
        ids = [queue.state.queue.id for queue in self.queues.values()]
        return self._add(new_queue(max(ids, default=0) + 1, name))

    def begin(self, names: Iterable[str]) -> dict[str, Change]:
        """Return what shows these queues, and the series that are to be shown from the start, at 0."""
        changes = {name: self.queue(name).begin(self.caps.shown_keys(), None) for name in names}
        return {name: change for name, change in changes.items() if change}

    def changes_of(self, batch: Batch, wall: float) -> tuple[dict[str, Change], dict[str, Sequence[bool]]]:
        """Return what the commit of a batch is to write, and which of its deliveries are new, both by queue.

        That is also what waits in other queues.
        """
        changes: dict[str, Change] = {}
        fresh: dict[str, Sequence[bool]] = {}
        for name, of_queue in batch.items():
            changes[name], fresh[name] = self.queues[name].change(of_queue)
        for name, queue in self.queues.items():
            if name not in changes and (queue.waits() if batch else queue.waits_for_a_flush(wall)):
                changes[name], _ = queue.change(None)
        return changes, fresh

    def commit(self, changes: Mapping[str, Change], wall: float) -> int:
        """Commit what is to be written, by queue, and take it in; returns about how many pages that were.

        Raises what `Database.transaction` does; then nothing in memory has changed.
        """
        with self.database.transaction() as connection:
            written = []
            for seq, (name, change) in enumerate(changes.items(), self.last_seq + 1):
                queue = self.queues[name]
                written.append(queue.state.write(connection, change, seq, queue.now(wall), queue.limits))
        self.last_seq += len(changes)
        pages = 0
        for name, of_queue in zip(changes, written, strict=True):
            queue = self.queues[name]
            queue.state.take(of_queue)
            queue.written()
            pages += of_queue.pages
        if self._mark is not None:
            self._mark.move(self.last_seq)
        return pages

    def go_on_from(self, instance_id: str, queues: Mapping[str, Queue], attempt: Attempt | None) -> None:
        """Take over what only memory holds of a file that failed and was opened again.

        `attempt` is the commit that failed, if one did. Raises LedgerError where it is another file, or an older copy.
        """
        seqs = {name: queue.state.queue.seq for name, queue in self.queues.items()}
        is_behind = any(seqs.get(name, 0) < queue.state.queue.seq for name, queue in queues.items())
        if self.identity.instance_id != instance_id or is_behind:
            self.close()
            raise failure(self.path, "io_error", "it is not the file that it was")
        if attempt is not None:
            attempt.account(queues, self.last_seq)
        for name, before in queues.items():
            self.queue(name).go_on_from(before)

    def close(self) -> None:
        """Close the file and its mark."""
        if self._mark is not None:
            self._mark.close()
        self.database.close()

    def read(self, connection: sqlite3.Connection) -> None:
        """Read all rows. Raises ValueError, TypeError or struct.error where they are not what was written."""
        states: dict[object, State] = {}
        for row in read_queues(connection):
            states[row.id] = self._add(row).state
            self.last_seq = max(self.last_seq, index(row.seq))
        for columns in read_rows(connection, "series"):
            _of_queue(states, columns[0]).read_series(columns)
        for columns in read_rows(connection, "reasons"):
            _of_queue(states, columns[0]).read_reason(columns)
        rows: Iterator[tuple[Row | EventRow, int]] = heapq.merge(
            memory.read_rows(connection), event_memory.read_rows(connection), key=lambda row: row[0].seq
        )
        for commit, checksum in rows:
            _of_queue(states, commit.queue_id).read_commit(commit, checksum)
        for state in states.values():
            state.finish()

    def _add(self, row: QueueRow) -> Queue:
        intake = IntakeLimit(self.max_ids)
        queue = Queue(State(row, self.identity, self.caps, intake), intake, self.monotonic)
        self.queues[row.name] = queue
        return queue


def _of_queue(states: Mapping[object, State], queue_id: object) -> State:
    """Return the state whose row it is. Raises ValueError where it belongs to no queue."""
    if queue_id not in states:
        raise ValueError(queue_id)
    return states[queue_id]


def open_file(  # noqa: PLR0913, PLR0917 - what a ledger is opened with
    path: str, name: str | None, caps: Caps, max_ids: int, monotonic: Callable[[], float], lock_timeout_seconds: float
) -> LedgerFile:
    """Open a ledger alone and read it; raises LedgerError. `name` is what one of an older schema is to be called."""
    database = Database(path, lock_timeout_seconds, name)
    try:
        failpoint.reach("at_open")
        with failures_of(path):
            file = LedgerFile(path, database, read_identity(database.connection), caps, max_ids, monotonic)
            file.read(database.connection)
    except BaseException:
        database.close()
        raise
    return file
