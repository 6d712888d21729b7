"""The rows that hold the totals of series and reasons.

Counts and sums are text on disk, whole numbers of any size in memory: SQLite's integers end at 2^63 and turn into
floats without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from exporter.ledger import SeriesTotals
from exporter.ledger.sqlite.schema import row_checksum

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

REJECTED = "rejected"
RELEASED = "released"
OVERFLOWED = "overflowed"
KINDS = (REJECTED, RELEASED, OVERFLOWED)

Stored = tuple[str, str]
"""A series as it is stored: its type, and its labels as JSON."""


class TotalRows:
    """Writes one queue's rows, and knows the checksum of each; `change` is by how much a commit changes their sum."""

    def __init__(self, queue_id: int) -> None:
        self._queue_id = queue_id
        self._checksums: dict[tuple[str, str], int] = {}
        self._written: dict[tuple[str, str], int] = {}
        self.change = 0

    def begin(self) -> None:
        """Begin a commit; what one that failed wrote is forgotten."""
        self._written = {}
        self.change = 0

    def end(self) -> None:
        """Take in what a commit that succeeded wrote."""
        self._checksums.update(self._written)
        self.begin()

    def write_series(self, connection: sqlite3.Connection, series: Mapping[Stored, SeriesTotals]) -> None:
        """Write changed series."""
        if series:
            rows = [_series_row(self._queue_id, stored, totals) for stored, totals in series.items()]
            connection.executemany("REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            for stored, row in zip(series, rows, strict=True):
                self._note(stored, row[-1])

    def write_reasons(self, connection: sqlite3.Connection, kind: str, counts: Mapping[str, int]) -> None:
        """Write changed counts by reason."""
        if counts:
            rows = [_reason_row(self._queue_id, kind, reason, count) for reason, count in counts.items()]
            connection.executemany("REPLACE INTO reasons VALUES (?, ?, ?, ?, ?)", rows)
            for row in rows:
                self._note((f"{kind}\0", row[2]), row[-1])

    def series_of(self, connection: sqlite3.Connection, name: str) -> list[tuple[Stored, int]]:
        """Read which series a type has, and how many events each has counted."""
        query = "SELECT type, labels, count FROM series WHERE queue_id = ? AND type = ?"
        rows = connection.execute(query, (self._queue_id, name))
        return [((type_, labels), int(count)) for type_, labels, count in rows]

    def drop_series(self, connection: sqlite3.Connection, stored: Stored) -> None:
        """Delete the row of a series."""
        connection.execute(
            "DELETE FROM series WHERE queue_id = ? AND type = ? AND labels = ?", (self._queue_id, *stored)
        )
        self._note(stored, 0)

    def read_series(self, row: tuple[object, ...]) -> tuple[Stored, SeriesTotals]:
        """Take in a row. Raises ValueError where it is damaged."""
        _, name, labels, count, value_nano, negative_nano, last_occurred_seconds, created_seconds, checksum = row
        stored = (str(name), str(labels))
        totals = SeriesTotals(
            int(str(count)),
            int(str(value_nano)),
            int(str(negative_nano)),
            cast("float | None", last_occurred_seconds),
            cast("float", created_seconds),
        )
        if _series_row(self._queue_id, stored, totals) != row:
            raise ValueError(name)
        self._checksums[stored] = cast("int", checksum)
        return stored, totals

    def read_reason(self, row: tuple[object, ...]) -> tuple[str, str, int]:
        """Take in a row: kind, reason and count. Raises ValueError where it is damaged."""
        _, kind, reason, count, checksum = row
        found = (str(kind), str(reason), int(str(count)))
        if kind not in KINDS or _reason_row(self._queue_id, *found) != row:
            raise ValueError(reason)
        self._checksums[f"{kind}\0", str(reason)] = cast("int", checksum)
        return found

    def checksums(self) -> int:
        """Add up the checksums of all rows."""
        return sum(self._checksums.values())

    def _note(self, key: tuple[str, str], checksum: int) -> None:
        self.change += checksum - self._checksums.get(key, 0)
        self._written[key] = checksum


def read_rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Read all rows of `series` or `reasons`; the first column says whose they are."""
    return connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - one of two names


def _series_row(
    queue_id: int, stored: Stored, totals: SeriesTotals
) -> tuple[int, str, str, str, str, str, float | None, float, int]:
    row = (
        queue_id,
        *stored,
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
