"""The rows that hold the totals of types and reasons.

Counts and sums are text on disk, whole numbers of any size in memory: SQLite's integers end at 2^63 and turn into
floats without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.ledger import SeriesTotals
from exporter.ledger.sqlite.schema import row_checksum

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

REJECTED = "rejected"
RELEASED = "released"


def write_types(
    connection: sqlite3.Connection, queue_id: int, before: Mapping[str, SeriesTotals], after: Mapping[str, SeriesTotals]
) -> int:
    """Write the changed types; returns by how much the sum of the rows' checksums changes."""
    rows = [_type_row(queue_id, name, totals) for name, totals in after.items()]
    connection.executemany("INSERT OR REPLACE INTO types VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    old = sum(_type_row(queue_id, name, before[name])[-1] for name in after if name in before)
    return sum(row[-1] for row in rows) - old


def write_reasons(
    connection: sqlite3.Connection, queue_id: int, kind: str, before: Mapping[str, int], after: Mapping[str, int]
) -> int:
    """Write the changed counts by reason; returns by how much the sum of the rows' checksums changes."""
    rows = [_reason_row(queue_id, kind, reason, count) for reason, count in after.items()]
    connection.executemany("INSERT OR REPLACE INTO reasons VALUES (?, ?, ?, ?, ?)", rows)
    old = sum(_reason_row(queue_id, kind, reason, before[reason])[-1] for reason in after if reason in before)
    return sum(row[-1] for row in rows) - old


def read_types(connection: sqlite3.Connection, queue_id: int) -> tuple[dict[str, SeriesTotals], int]:
    """Read all types of the queue and the sum of their checksums. Raises ValueError where a row is damaged."""
    types: dict[str, SeriesTotals] = {}
    checksums = 0
    for row in connection.execute("SELECT * FROM types WHERE queue_id = ?", (queue_id,)):
        _, name, count, value_nano, negative_nano, last_occurred_seconds, created_seconds, checksum = row
        totals = SeriesTotals(int(count), int(value_nano), int(negative_nano), last_occurred_seconds, created_seconds)
        if _type_row(queue_id, name, totals) != row:
            raise ValueError(name)
        types[name] = totals
        checksums += checksum
    return types, checksums


def read_reasons(connection: sqlite3.Connection, queue_id: int) -> tuple[dict[str, dict[str, int]], int]:
    """Read the counts by kind and reason and the sum of their checksums. Raises ValueError where one is damaged."""
    counts: dict[str, dict[str, int]] = {REJECTED: {}, RELEASED: {}}
    checksums = 0
    for row in connection.execute("SELECT * FROM reasons WHERE queue_id = ?", (queue_id,)):
        _, kind, reason, count, checksum = row
        if kind not in counts or _reason_row(queue_id, kind, reason, int(count)) != row:
            raise ValueError(reason)
        counts[kind][reason] = int(count)
        checksums += checksum
    return counts, checksums


def _type_row(
    queue_id: int, name: str, totals: SeriesTotals
) -> tuple[int, str, str, str, str, float | None, float, int]:
    row = (
        queue_id,
        name,
        str(totals.count),
        str(totals.value_nano),
        str(totals.negative_nano),
        totals.last_occurred_seconds,
        totals.created_seconds,
    )
    return (*row, row_checksum(*row))


def _reason_row(queue_id: int, kind: str, reason: str, count: int) -> tuple[int, str, str, str, int]:
    row = (queue_id, kind, reason, str(count))
    return (*row, row_checksum(*row))
