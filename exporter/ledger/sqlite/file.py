"""Reads a ledger's file when it is opened: the ledger's own row and its queues."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.ledger import failpoint
from exporter.ledger.intake import IntakeLimit
from exporter.ledger.sqlite import event_memory, memory
from exporter.ledger.sqlite.database import Database
from exporter.ledger.sqlite.queue import Queue
from exporter.ledger.sqlite.queue_row import Identity, QueueRow, new_queue, read_identity, read_queues
from exporter.ledger.sqlite.schema import failures_of
from exporter.ledger.sqlite.state import State
from exporter.ledger.sqlite.total_rows import read_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping

    from exporter.ledger.series import Caps
    from exporter.ledger.sqlite.event_memory import EventRow
    from exporter.ledger.sqlite.memory import Row
    from exporter.ledger.sqlite.state import Change


@dataclass(slots=True)
class LedgerFile:
    """An open ledger, and what it holds as of its last commit."""

    database: Database
    identity: Identity
    caps: Caps
    max_ids: int
    monotonic: Callable[[], float]
    last_seq: int = 0
    """The sequence number of the last commit of any queue."""
    queues: dict[str, Queue] = field(default_factory=dict)

    def add_queue(self, name: str) -> Queue:
        """Begin a queue: it has a row from its first commit on."""
        ids = [queue.state.queue.id for queue in self.queues.values()]
        return self._add(new_queue(max(ids, default=0) + 1, name))

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
        for name, of_queue in zip(changes, written, strict=True):
            queue = self.queues[name]
            queue.state.take(of_queue)
            queue.written()
        return sum(of_queue.pages for of_queue in written)

    def is_behind(self, queues: Mapping[str, Queue]) -> bool:
        """Whether it lacks commits that were made of these queues."""
        seqs = {name: queue.state.queue.seq for name, queue in self.queues.items()}
        return any(seqs.get(name, 0) < queue.state.queue.seq for name, queue in queues.items())

    def read(self, connection: sqlite3.Connection) -> None:
        """Read all rows. Raises ValueError, TypeError or struct.error where they are not what was written."""
        states: dict[object, State] = {}
        for row in read_queues(connection):
            states[row.id] = self._add(row).state
            self.last_seq = max(self.last_seq, row.seq)
        for columns in read_rows(connection, "series"):
            states[columns[0]].read_series(columns)
        for columns in read_rows(connection, "reasons"):
            states[columns[0]].read_reason(columns)
        rows: Iterator[tuple[Row | EventRow, int]] = heapq.merge(
            memory.read_rows(connection), event_memory.read_rows(connection), key=lambda row: row[0].seq
        )
        for commit, checksum in rows:
            states[commit.queue_id].read_commit(commit, checksum)
        for state in states.values():
            state.finish()

    def _add(self, row: QueueRow) -> Queue:
        intake = IntakeLimit(self.max_ids)
        queue = Queue(State(row, self.identity, self.caps, intake), intake, self.monotonic)
        self.queues[row.name] = queue
        return queue


def open_file(  # noqa: PLR0913, PLR0917 - what a ledger is opened with
    path: str, name: str | None, caps: Caps, max_ids: int, monotonic: Callable[[], float], lock_timeout_seconds: float
) -> LedgerFile:
    """Open a ledger alone and read it; raises LedgerError. `name` is what one of an older schema is to be called."""
    database = Database(path, lock_timeout_seconds, name)
    try:
        failpoint.reach("at_open")
        with failures_of(path):
            file = LedgerFile(database, read_identity(database.connection), caps, max_ids, monotonic)
            file.read(database.connection)
    except BaseException:
        database.close()
        raise
    return file
