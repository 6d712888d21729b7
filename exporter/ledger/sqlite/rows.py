"""What the two memories of ids have in common: limits, the time of a commit, and how their rows are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from exporter.ledger.intake import reserved_ids
from exporter.ledger.sqlite.ids import IdIndex

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from exporter.ledger.intake import IntakeLimit

PRUNE_AT_LEAST = 2_000
"""Ids a commit may look at to forget some, beside a few for each that it remembers: about 2 ms."""


class Moment(NamedTuple):
    """When a commit of a queue was, on three clocks."""

    clock_seconds: float
    """The queue's own clock: seconds in which receives of it succeeded."""
    paused_seconds: float
    """How far ahead of it the clock is on which ids grow old enough to be dropped early; that also goes while
    --ledger.max-ids slows receives down."""
    committed_at_seconds: float
    """Unix time."""

    @property
    def age_seconds(self) -> float:
        """The time on the clock on which ids grow old enough to be dropped early."""
        return self.clock_seconds + self.paused_seconds


class Limits(NamedTuple):
    """How long ids stay, and how many."""

    window_seconds: float
    id_window_seconds: float
    """The window of events' own ids."""
    protected_seconds: float
    """Younger ids are not dropped early: twice the visibility timeout."""
    retention_seconds: float
    max_ids: int

    @property
    def comfortable_ids(self) -> int:
        """Above so many ids the oldest are dropped early, so that the next messages can be remembered."""
        return self.max_ids - reserved_ids(self.max_ids)


class StoredRow(Protocol):
    """What one commit of one queue did to a memory of ids."""

    @property
    def seq(self) -> int:
        """The number of the commit."""

    @property
    def age_seconds(self) -> float:
        """When, on the clock on which ids grow old enough to be dropped early."""

    def checksum(self) -> int:
        """CRC-32 of the whole row."""


RowT = TypeVar("RowT", bound=StoredRow)


class Seqs:
    """The sequence numbers of the rows that are there, oldest first: 8 bytes each."""

    def __init__(self) -> None:
        self._seqs = array("q")
        self._first = 0

    def __iter__(self) -> Iterator[int]:
        for index in range(self._first, len(self._seqs)):
            yield self._seqs[index]

    def append(self, seq: int) -> None:
        """Note a new row."""
        self._seqs.append(seq)

    def drop(self, number: int) -> None:
        """Forget the oldest ones."""
        self._first += number
        if self._first * 2 > len(self._seqs):
            del self._seqs[: self._first]
            self._first = 0


class RowMemory(ABC, Generic[RowT]):
    """Ids in memory, and the numbers of the rows of a table that they can be rebuilt from."""

    def __init__(self, intake: IntakeLimit, table: str, make: Callable[[Iterable[Any]], RowT]) -> None:
        self._intake = intake
        self._select = f"SELECT * FROM {table} WHERE seq = ?"  # noqa: S608 - fixed
        self._make = make
        self._index = IdIndex()
        self._seqs = Seqs()
        self._oldest: RowT | None = None

    def __len__(self) -> int:
        return len(self._index)

    def known(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of the ids that are remembered."""
        return self._index.known(ids)

    def prunable(self, now: Moment, limits: Limits, excess: int) -> bool:
        """Whether the oldest row is due, or may be dropped early."""
        return self._oldest is not None and self._droppable(self._oldest, now, limits, excess)

    def _rows(self, connection: sqlite3.Connection) -> Iterator[tuple[RowT, int]]:
        for seq in self._seqs:
            yield read_row(self._make, connection.execute(self._select, (seq,)).fetchone())

    def _droppable(self, row: RowT, now: Moment, limits: Limits, excess: int) -> bool:
        """Whether a row is due, or may be dropped because there are `excess` ids too many."""
        too_many = excess > 0 and now.age_seconds - row.age_seconds >= limits.protected_seconds
        return too_many or self._due(row, now, limits)

    @abstractmethod
    def _due(self, row: RowT, now: Moment, limits: Limits) -> bool:
        """Whether a row may be forgotten by its age alone."""


def read_row(make: Callable[[Iterable[Any]], RowT], columns: tuple[object, ...]) -> tuple[RowT, int]:
    """Take a row apart. Raises ValueError or TypeError where it is damaged, or is not there."""
    row = make(columns[:-1])
    checksum = row.checksum()
    if checksum != columns[-1]:
        raise ValueError(row.seq)
    return row, checksum
