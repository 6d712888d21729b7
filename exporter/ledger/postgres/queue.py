"""What a replica keeps in memory for each queue: its row, its series, and what waits to be written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.ledger.postgres.statements import BEYOND_SERIES, BEYOND_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.errors import LedgerError
    from exporter.ledger import QueueIdentity
    from exporter.ledger.postgres.admission import QueueSeries
    from exporter.ledger.series import Key

MAX_RETENTION_SECONDS = 14 * 24 * 3600
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html"""
_MAX_PLACES = 10_000
_FLAGS = {"": 0, "types": BEYOND_TYPES, "series": BEYOND_SERIES}


@dataclass(slots=True)
class Known:
    """What was read of a queue last, of all replicas together."""

    clock_seconds: int = 0
    newest_mark_seconds: int | None = None
    ids: int = 0
    replicas: int = 1


@dataclass(slots=True)
class Queue:
    """One queue that this replica serves."""

    identity: QueueIdentity
    id: int | None = None
    """Its row. None until it was bound by this replica."""
    error: LedgerError | None = None
    """Why it can't be bound."""
    asked: bool = True
    """Whether it waits to be bound, or bound again."""
    series: QueueSeries | None = None
    places: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """By an event's series: the row that counts it, and the flag of the cap that it met."""
    receiving_seconds: float = 0.0
    """Since this replica registered."""
    saved_seconds: float = 0.0
    settled: dict[bytes, None] = field(default_factory=dict)
    uncounted: Counter[str] = field(default_factory=Counter)
    """Deliveries to count as released, by reason, with the next commit."""
    known: Known = field(default_factory=Known)
    added_ids: int = 0
    """Since `known` was read."""
    looked_until: tuple[int, int] = (0, 0)
    """Messages, and events, that were last seen before this time on the queue's clock were looked at by `prune`."""
    look_at_all_at: float = 0.0
    """When to look at them again: of those that had to stay some may have been settled (monotonic seconds)."""

    @property
    def retention_seconds(self) -> int:
        """How long SQS may go on delivering a message."""
        return self.identity.retention_seconds or MAX_RETENTION_SECONDS

    def unregister(self) -> None:
        """Forget what belonged to a replica's row that is gone."""
        self.id = None
        self.asked = True
        self.series = None
        self.places = {}
        self.receiving_seconds = self.saved_seconds = 0.0

    def limit_places(self) -> None:
        """Begin `places` anew where they are many. Not within a commit, which needs those of all its events."""
        if len(self.places) > _MAX_PLACES:
            self.places.clear()

    def unplaced(self, keys: Iterable[Key]) -> list[Key]:
        """Find out where events of these series are counted; returns those that have to be admitted first."""
        series = self.series
        if series is None:
            return list(keys)
        wanted = []
        for key in keys:
            if key in self.places:
                continue
            row, cap = series.place(key)
            if row is None:
                wanted.append(key)
                continue
            self.places[key] = (row, _FLAGS[cap])
        return wanted
