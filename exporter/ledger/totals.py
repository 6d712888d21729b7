"""The numbers per type and reason: what a turn's outcomes add to them, and the rows that hold them.

Counts and sums are text on disk, whole numbers of any size in memory: SQLite's integers end at 2^63 and turn into
floats without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.ledger import OTHER_TYPE, TypeTotals
from exporter.ledger.schema import row_checksum

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from exporter.event import Event

REJECTED = "rejected"
RELEASED = "released"


@dataclass(slots=True)
class Added:
    """What one turn adds. `types` holds what each changed type comes to, the others what comes on top."""

    types: Mapping[str, TypeTotals]
    rejected: Mapping[str, int]
    timestamps_unreadable: int


class _Sum:
    __slots__ = ("count", "last_occurred_seconds", "negative_nano", "value_nano")

    def __init__(self, totals: TypeTotals) -> None:
        self.count = totals.count
        self.value_nano = totals.value_nano
        self.negative_nano = totals.negative_nano
        self.last_occurred_seconds = totals.last_occurred_seconds


def new_series(now: float) -> TypeTotals:
    """Begin a series, at 0."""
    return TypeTotals(count=0, value_nano=0, negative_nano=0, last_occurred_seconds=None, created_seconds=now)


def add(before: Mapping[str, TypeTotals], outcomes: Iterable[Event | str], room: int, now: float) -> Added:
    """Add events to the totals of their types; at most `room` new types begin, OTHER_TYPE has the rest."""
    sums: dict[str, _Sum] = {}
    created: dict[str, float] = {}
    rejected: dict[str, int] = {}
    unreadable = 0
    for outcome in outcomes:
        if isinstance(outcome, str):
            rejected[outcome] = rejected.get(outcome, 0) + 1
            continue
        name = outcome.type
        total = sums.get(name)
        if total is None:
            if name not in before:
                if len(created) < room:
                    created[name] = now
                else:
                    name = OTHER_TYPE
            total = sums.get(name)
            if total is None:
                total = sums[name] = _Sum(before.get(name) or new_series(now))
        total.count += 1
        nano = outcome.value_nano
        if nano >= 0:
            total.value_nano += nano
        else:
            total.negative_nano -= nano
        at = outcome.occurred_at_seconds
        if at is None:
            unreadable += 1
        elif total.last_occurred_seconds is None or at > total.last_occurred_seconds:
            total.last_occurred_seconds = at + 0.0
    types = {
        name: TypeTotals(
            total.count,
            total.value_nano,
            total.negative_nano,
            total.last_occurred_seconds,
            before[name].created_seconds if name in before else created[name],
        )
        for name, total in sums.items()
    }
    return Added(types, rejected, unreadable)


def plus(before: Mapping[str, int], added: Mapping[str, int]) -> dict[str, int]:
    """Add to counts; returns those that change."""
    return {reason: before.get(reason, 0) + count for reason, count in added.items()}


def write_types(
    connection: sqlite3.Connection, queue_id: int, before: Mapping[str, TypeTotals], after: Mapping[str, TypeTotals]
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


def read_types(connection: sqlite3.Connection, queue_id: int) -> tuple[dict[str, TypeTotals], int]:
    """Read all types of the queue and the sum of their checksums. Raises ValueError where a row is damaged."""
    types: dict[str, TypeTotals] = {}
    checksums = 0
    for row in connection.execute("SELECT * FROM types WHERE queue_id = ?", (queue_id,)):
        _, name, count, value_nano, negative_nano, last_occurred_seconds, created_seconds, checksum = row
        totals = TypeTotals(int(count), int(value_nano), int(negative_nano), last_occurred_seconds, created_seconds)
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


def _type_row(queue_id: int, name: str, totals: TypeTotals) -> tuple[int, str, str, str, str, float | None, float, int]:
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
