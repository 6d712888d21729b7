"""How outcomes become sums: what a batch of them adds to the totals of types and reasons. Pure, for every ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.ledger import OTHER_TYPE, SeriesTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.events.event import Event


@dataclass(slots=True)
class Added:
    """What one batch adds. `types` holds what each changed type comes to, the others what comes on top."""

    types: Mapping[str, SeriesTotals]
    rejected: Mapping[str, int]
    timestamps_unreadable: int


class _Sum:
    __slots__ = ("count", "last_occurred_seconds", "negative_nano", "value_nano")

    def __init__(self, totals: SeriesTotals) -> None:
        self.count = totals.count
        self.value_nano = totals.value_nano
        self.negative_nano = totals.negative_nano
        self.last_occurred_seconds = totals.last_occurred_seconds


def new_series(now: float) -> SeriesTotals:
    """Begin a series, at 0."""
    return SeriesTotals(count=0, value_nano=0, negative_nano=0, last_occurred_seconds=None, created_seconds=now)


def add(before: Mapping[str, SeriesTotals], outcomes: Iterable[Event | str], room: int, now: float) -> Added:
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
        name: SeriesTotals(
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
