"""Migrates a ledger of version 0.1.0 (schema 1) to schema 2, in one transaction, after a copy was made beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.ledger import OTHER, SeriesTotals, failpoint
from exporter.ledger.series import OTHER_LABELS, WITHOUT_LABELS
from exporter.ledger.sqlite.copy import copy_to
from exporter.ledger.sqlite.create import name_of
from exporter.ledger.sqlite.memory import read_rows
from exporter.ledger.sqlite.queue_row import Identity, QueueRow, write_identity, write_queue
from exporter.ledger.sqlite.schema import TABLES, VERSION, row_checksum
from exporter.ledger.sqlite.total_rows import TotalRows

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES_1 = {
    "ledger": """CREATE TABLE ledger (
  id INTEGER PRIMARY KEY, instance_id TEXT NOT NULL, created_seconds REAL NOT NULL, checksum INTEGER NOT NULL
)""",
    "queues": """CREATE TABLE queues (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, arn TEXT, seq INTEGER NOT NULL, clock_seconds REAL NOT NULL,
  paused_seconds REAL NOT NULL, received TEXT NOT NULL, duplicate TEXT NOT NULL, timestamps_unreadable TEXT NOT NULL,
  forgotten_early TEXT NOT NULL, rows_checksum INTEGER NOT NULL, checksum INTEGER NOT NULL
)""",
    "types": """CREATE TABLE types (
  queue_id INTEGER NOT NULL, type TEXT NOT NULL, count TEXT NOT NULL, value_nano TEXT NOT NULL,
  negative_nano TEXT NOT NULL, last_occurred_seconds REAL, created_seconds REAL NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (queue_id, type)
) WITHOUT ROWID""",
    "reasons": TABLES["reasons"],
    "commits": TABLES["commits"],
}


def migrate(connection: sqlite3.Connection, path: str, name: str | None) -> None:
    """Bring a ledger of schema 1 to schema 2; it is open in `connection` alone, and its log is empty.

    `name` is what it is to be called. Raises ValueError where a row is damaged; then nothing has changed.
    """
    copy_to(connection, f"{path}.v1")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _convert(connection, name)
        connection.execute(f"PRAGMA user_version={VERSION}")
        failpoint.reach("in_migration")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _convert(connection: sqlite3.Connection, name: str | None) -> None:
    ((_, instance_id, created_seconds, checksum),) = connection.execute("SELECT * FROM ledger").fetchall()
    if row_checksum(instance_id, created_seconds) != checksum:
        raise ValueError(instance_id)
    queues = list(_read_queues(connection))
    types = _read_types(connection)
    if not set(types) <= {queue.id for queue in queues}:
        raise ValueError("queue_id")
    sums = defaultdict[int, int](int)
    for row, row_sum in read_rows(connection):
        sums[row.queue_id] += row_sum

    for table in ("ledger", "queues", "types"):
        connection.execute(f"DROP TABLE {table}")
    for table in ("ledger", "queues", "series", "event_ids"):
        connection.execute(TABLES[table])
    write_identity(connection, Identity(instance_id, name or name_of(instance_id), created_seconds))
    for queue in queues:
        rows = TotalRows(queue.id)
        for reason in connection.execute("SELECT * FROM reasons WHERE queue_id = ?", (queue.id,)):
            rows.read_reason(reason)
        others = sums[queue.id] + rows.checksums()
        if queue.rows_checksum != others + sum(checksum for _, _, checksum in types[queue.id]):
            raise ValueError(queue.name)
        series = {
            (type_, OTHER_LABELS if type_ == OTHER else WITHOUT_LABELS): totals for type_, totals, _ in types[queue.id]
        }
        rows.write_series(connection, series)
        write_queue(connection, queue._replace(rows_checksum=others + rows.change))


def _read_queues(connection: sqlite3.Connection) -> Iterator[QueueRow]:
    for columns in connection.execute("SELECT * FROM queues ORDER BY id"):
        *fields, rows_checksum, checksum = columns
        if row_checksum(*fields, rows_checksum) != checksum:
            raise ValueError(fields)
        id_, name, arn, seq, clock_seconds, paused_seconds, *counts = fields
        received, duplicate, unreadable, forgotten = map(int, counts)
        if [*map(str, (received, duplicate, unreadable, forgotten))] != counts:
            raise ValueError(name)
        yield QueueRow(
            id_, name, arn, seq, clock_seconds, paused_seconds, received, duplicate, unreadable, forgotten, 0, 0,
            rows_checksum,
        )  # fmt: skip


def _read_types(connection: sqlite3.Connection) -> defaultdict[int, list[tuple[str, SeriesTotals, int]]]:
    types = defaultdict[int, list[tuple[str, SeriesTotals, int]]](list)
    for *fields, checksum in connection.execute("SELECT * FROM types"):
        if row_checksum(*fields) != checksum:
            raise ValueError(fields)
        queue_id, name, count, value_nano, negative_nano, last_occurred_seconds, created_seconds = fields
        totals = SeriesTotals(int(count), int(value_nano), int(negative_nano), last_occurred_seconds, created_seconds)
        types[queue_id].append((name, totals, checksum))
    return types
