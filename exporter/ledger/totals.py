"""Adds a batch of outcomes to the totals of series and reasons. Pure: shared by both ledgers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.ledger import SeriesTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.events.event import Event
    from exporter.ledger.series import Admission, Key


@dataclass(slots=True)
class Added:
    """What one batch adds. `series` holds what each changed one comes to, the others what comes on top."""

    series: dict[Key, SeriesTotals]
    rejected: dict[str, int]
    overflowed: dict[str, int]
    timestamps_unreadable: int
    admission: Admission
    """With the series that the batch began."""

    def place(self, key: Key, before: Mapping[Key, SeriesTotals], admission: Admission) -> Key:
        """Find the series of an event whose own is not there: it begins, or the event is counted under OTHER."""
        key, cap = self.admission.place(key)
        if cap:
            self.overflowed[cap] = self.overflowed.get(cap, 0) + 1
        if key not in before:
            if self.admission is admission:
                self.admission = admission.copy()
            self.admission.add(key)
        return key


class _Sum:
    __slots__ = ("count", "created_seconds", "last_occurred_seconds", "negative_nano", "value_nano")

    def __init__(self, totals: SeriesTotals) -> None:
        self.count = totals.count
        self.value_nano = totals.value_nano
        self.negative_nano = totals.negative_nano
        self.last_occurred_seconds = totals.last_occurred_seconds
        self.created_seconds = totals.created_seconds


def new_series(now: float) -> SeriesTotals:
    """Begin a series, at 0."""
    return SeriesTotals(count=0, value_nano=0, negative_nano=0, last_occurred_seconds=None, created_seconds=now)


def add(before: Mapping[Key, SeriesTotals], outcomes: Iterable[Event | str], admission: Admission, now: float) -> Added:
    """Add events to the totals of their series, or of those that have what goes beyond the caps.

    An event whose own series meets a cap is counted under OTHER in the same sums: nothing is lost, whatever is sent.
    """
    sums: dict[Key, _Sum] = {}
    added = Added({}, {}, {}, 0, admission)
    rejected = added.rejected
    unreadable = 0
    for outcome in outcomes:
        if isinstance(outcome, str):
            rejected[outcome] = rejected.get(outcome, 0) + 1
            continue
        key = outcome.series
        total = sums.get(key)
        if total is None:
            if key not in before:
                key = added.place(key, before, admission)
                total = sums.get(key)
            if total is None:
                total = sums[key] = _Sum(before.get(key) or new_series(now))
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
            # SQLite gives 3 and -0.0 back as 3.0 and 0.0, and the checksum of a row is that of its text.
            total.last_occurred_seconds = at + 0.0
    added.timestamps_unreadable = unreadable
    added.series = {
        key: SeriesTotals(s.count, s.value_nano, s.negative_nano, s.last_occurred_seconds, s.created_seconds)
        for key, s in sums.items()
    }
    return added


def plus(before: Mapping[str, int], added: Mapping[str, int]) -> dict[str, int]:
    """Add to counts; returns those that change."""
    return {reason: before.get(reason, 0) + count for reason, count in added.items()}
