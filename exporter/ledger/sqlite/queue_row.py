"""The ledger's own row, and a queue's row: its progress, and a checksum over all its other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.ledger.sqlite.schema import row_checksum

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


class Identity(NamedTuple):
    """The ledger's own row."""

    instance_id: str
    name: str
    created_seconds: float


class QueueRow(NamedTuple):
    """One per queue, rewritten by each of its commits. Counts are text on disk: SQLite's integers end at 2^63."""

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
    without_event_id: int
    events_forgotten: int
    rows_checksum: int
    """Sum of the checksums of the queue's other rows: series, reasons, commits and event ids."""


def read_queues(connection: sqlite3.Connection) -> Iterator[QueueRow]:
    """Read the rows of all queues. Raises ValueError where one is damaged."""
    for columns in connection.execute("SELECT * FROM queues ORDER BY id"):
        row = QueueRow._make((*columns[:6], *map(int, columns[6:12]), columns[12]))
        if _columns(row) != columns:
            raise ValueError(row.name)
        yield row


def new_queue(queue_id: int, name: str) -> QueueRow:
    """Make the row of a queue that has none."""
    return QueueRow(queue_id, name, None, 0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, 0)


def write_queue(connection: sqlite3.Connection, row: QueueRow) -> None:
    """Write the row, or rewrite it."""
    connection.execute("REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _columns(row))


def read_identity(connection: sqlite3.Connection) -> Identity:
    """Read the ledger's own row. Raises ValueError where that is damaged."""
    ((_, *fields, checksum),) = connection.execute("SELECT * FROM ledger").fetchall()
    if row_checksum(*fields) != checksum:
        raise ValueError(fields)
    return Identity(*fields)


def write_identity(connection: sqlite3.Connection, identity: Identity) -> None:
    """Write the ledger's own row, or rewrite it."""
    connection.execute("REPLACE INTO ledger VALUES (1, ?, ?, ?, ?)", (*identity, row_checksum(*identity)))


def _columns(row: QueueRow) -> tuple[object, ...]:
    columns = (*row[:6], *map(str, row[6:12]), row.rows_checksum)
    return (*columns, row_checksum(*columns))
