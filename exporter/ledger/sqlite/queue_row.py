"""The rows that stand alone: the ledger's own, and a queue's, with how far it got and the seal over its other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.ledger.sqlite.schema import row_checksum

if TYPE_CHECKING:
    import sqlite3

_VALUES = "queues VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class QueueRow(NamedTuple):
    """One per queue, rewritten by each commit."""

    id: int
    name: str
    arn: str | None
    seq: int
    """Of the last commit; unique in the file."""
    clock_seconds: float
    paused_seconds: float
    received: int
    duplicate: int
    timestamps_unreadable: int
    forgotten_early: int
    rows_checksum: int
    """Sum of the checksums of the queue's other rows: types, reasons and commits."""


def read_queue(connection: sqlite3.Connection, name: str) -> QueueRow | None:
    """Read the row of the queue of that name; None: there is none. Raises ValueError where any queue's is damaged.

    A damaged name must not look like a queue that is new, and every queue that was begun has types.
    """
    found = None
    for columns in connection.execute("SELECT * FROM queues"):
        row = QueueRow._make((*columns[:6], *map(int, columns[6:10]), columns[10]))
        if _columns(row) != columns:
            raise ValueError(name)
        if row.name == name:
            found = row
    if connection.execute("SELECT queue_id FROM types EXCEPT SELECT id FROM queues").fetchall():
        raise ValueError(name)
    return found


def begin_queue(connection: sqlite3.Connection, name: str) -> QueueRow:
    """Write the row of a queue that has none."""
    (rows,) = connection.execute("SELECT count(*) FROM queues").fetchone()
    row = QueueRow(rows + 1, name, None, 0, 0.0, 0.0, 0, 0, 0, 0, 0)
    connection.execute("INSERT INTO " + _VALUES, _columns(row))
    return row


def write_queue(connection: sqlite3.Connection, row: QueueRow) -> None:
    """Rewrite the row."""
    connection.execute("REPLACE INTO " + _VALUES, _columns(row))


def read_identity(connection: sqlite3.Connection) -> tuple[str, float]:
    """Read the ledger's instance id and when it was made, Unix time. Raises ValueError where that is damaged."""
    ((_, instance_id, created_seconds, checksum),) = connection.execute("SELECT * FROM ledger").fetchall()
    if row_checksum(instance_id, created_seconds) != checksum:
        raise ValueError(instance_id)
    return instance_id, created_seconds


def last_seq(connection: sqlite3.Connection) -> int:
    """Find the sequence number of the last commit of any queue."""
    (seq,) = connection.execute("SELECT max(seq) FROM queues").fetchone()
    return int(seq)


def _columns(row: QueueRow) -> tuple[object, ...]:
    columns = (*row[:6], *map(str, row[6:10]), row.rows_checksum)
    return (*columns, row_checksum(*columns))
