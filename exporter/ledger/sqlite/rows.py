"""What the two memories of ids have in common: limits, the time of a commit, and the order of their rows."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple, Protocol

from exporter.ledger.intake import reserved_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

PRUNE_AT_LEAST = 2_000
"""Ids a commit may look at to forget some, beside two for each that it remembers: about 2 ms."""


class Moment(NamedTuple):
    """A time: on the queue's own clock, by how much ids are older than that, and Unix time."""

    clock_seconds: float
    paused_seconds: float
    committed_at_seconds: float

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


class Timed(Protocol):
    """A row, as far as it is decided by its time whether it goes."""

    @property
    def clock_seconds(self) -> float:
        """When it was committed, on the queue's own clock."""

    @property
    def age_seconds(self) -> float:
        """The same on the clock on which ids grow old."""


def may_go(row: Timed, now: Moment, limits: Limits, excess: int) -> bool:
    """Whether a row that is not due may be dropped because there are `excess` ids too many."""
    return excess > 0 and now.age_seconds - row.age_seconds >= limits.protected_seconds


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
