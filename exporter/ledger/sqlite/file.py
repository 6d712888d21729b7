"""All of a ledger's file, read once: whose it is, and its queues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.ledger import failpoint
from exporter.ledger.room import Room
from exporter.ledger.sqlite import event_memory, memory
from exporter.ledger.sqlite.database import Database
from exporter.ledger.sqlite.queue import Queue
from exporter.ledger.sqlite.queue_row import Identity, QueueRow, new_queue, read_identity, read_queues
from exporter.ledger.sqlite.schema import failures_of
from exporter.ledger.sqlite.state import State
from exporter.ledger.sqlite.total_rows import read_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from exporter.ledger.series import Caps


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
        for commit, checksum in memory.read_rows(connection):
            states[commit.queue_id].read_commit(commit, checksum)
        for event_ids, checksum in event_memory.read_rows(connection):
            states[event_ids.queue_id].read_event_ids(event_ids, checksum)
        for state in states.values():
            state.finish()

    def _add(self, row: QueueRow) -> Queue:
        room = Room(self.max_ids)
        queue = Queue(State(row, self.identity, self.caps, room), room, self.monotonic)
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
