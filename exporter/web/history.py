"""What the landing page remembers of the last minutes, for rates and sparklines: counts, taken every few seconds."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from exporter.telemetry.metrics.names import MESSAGE_AGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

    from exporter.ledger import Snapshot

INTERVAL_SECONDS = 5.0
WINDOW_SECONDS = 300.0
"""What a sparkline shows."""
RATE_SECONDS = 60.0
"""Over how long a rate or a lag is averaged."""
MAX_TYPES = 500
"""Of all queues together that are remembered, and shown: those with the most events."""
MIN_TYPES_PER_QUEUE = 5
MAX_TYPES_PER_QUEUE = 100
_LEAST_SECONDS = 1.0
"""Between two counts whose difference makes a rate."""


class Ages(NamedTuple):
    """How many messages were received so far, and their ages at that moment, in seconds, added up."""

    sum_seconds: float
    messages: float


class Point(NamedTuple):
    """A rate, per second, up to a moment that many seconds ago."""

    seconds_ago: float
    rate: float


@dataclass(frozen=True, slots=True)
class _Counts:
    """What was counted from one queue up to a moment."""

    total: int
    by_type: dict[str, int]
    """Of the types with the most events."""
    whole: bool
    """Whether those are all types there were: another one was at 0."""
    ages: Ages | None

    def of(self, event_type: str | None) -> int | None:
        """Return the count of a type or, for None, of all; None where it is not known."""
        if event_type is None:
            return self.total
        return self.by_type.get(event_type, 0 if self.whole else None)


@dataclass(slots=True)
class History:
    """Counts of the last minutes by queue and type. Used by the web server's thread alone; its size is bounded."""

    _taken: deque[tuple[float, dict[str, _Counts]]] = field(
        default_factory=lambda: deque(maxlen=round(WINDOW_SECONDS / INTERVAL_SECONDS) + 1)
    )

    def is_due(self, now: float) -> bool:
        """Whether it is time (monotonic) to take counts again."""
        return not self._taken or now - self._taken[-1][0] >= INTERVAL_SECONDS

    def take(self, now: float, snapshots: Mapping[str, Snapshot], ages: Mapping[str, Ages]) -> None:
        """Remember the counts of now (monotonic)."""
        limit = types_shown(len(snapshots))
        self._taken.append((now, {queue: _counts(of, limit, ages.get(queue)) for queue, of in snapshots.items()}))

    def rate(self, now: float, queue: str, event_type: str | None, count: int) -> float | None:
        """Return the events a second of the last minute, of a type or of all; None where nothing is known yet."""
        for then, queues in self._taken:
            before = queues[queue].of(event_type) if queue in queues else None
            if before is not None and _LEAST_SECONDS <= now - then <= RATE_SECONDS + INTERVAL_SECONDS:
                return max(0.0, (count - before) / (now - then))
        return None

    def lag_seconds(self, now: float, queue: str, ages: Ages | None) -> float | None:
        """Return how old the messages of the last minute were when they were counted; None where there were none."""
        for then, queues in self._taken:
            before = queues[queue].ages if queue in queues else None
            if ages is not None and before is not None and now - then <= RATE_SECONDS + INTERVAL_SECONDS:
                messages = ages.messages - before.messages
                return (ages.sum_seconds - before.sum_seconds) / messages if messages > 0 else None
        return None

    def points(self, now: float, queue: str, event_type: str | None, count: int) -> list[Point]:
        """Return the rates of the last minutes, of a type or of all, from the moment since when they are known."""
        known = [(then, queues[queue].of(event_type)) for then, queues in self._taken if queue in queues]
        counts = [(then, before) for then, before in known if before is not None and now - then <= WINDOW_SECONDS]
        if counts and now - counts[-1][0] >= _LEAST_SECONDS:
            counts.append((now, count))
        rates = [
            Point(now - until, max(0.0, (after - before) / (until - since)))
            for (since, before), (until, after) in pairwise(counts)
            if until > since
        ]
        return [Point(now - counts[0][0], rates[0].rate), *rates] if rates else []


def ages(registry: CollectorRegistry) -> dict[str, Ages]:
    """Return what the histogram of messages' ages says so far, by queue."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for family in registry.restricted_registry((f"{MESSAGE_AGE.name}_sum", f"{MESSAGE_AGE.name}_count")).collect():
        for sample in family.samples:
            (sums if sample.name.endswith("_sum") else counts)[sample.labels["queue"]] = sample.value
    return {queue: Ages(sum_seconds, counts.get(queue, 0)) for queue, sum_seconds in sums.items()}


def types_shown(queues: int) -> int:
    """Return how many types of each queue are remembered and shown, for so many queues."""
    return min(MAX_TYPES_PER_QUEUE, max(MIN_TYPES_PER_QUEUE, MAX_TYPES // max(1, queues)))


def largest(counts: Mapping[str, int], limit: int) -> list[str]:
    """Return the types with the most events, the largest first; of equal ones by name."""
    if len(counts) > limit:
        counts = dict(heapq.nlargest(limit, counts.items(), key=itemgetter(1)))
    return sorted(counts, key=lambda name: (-counts[name], name))


def _counts(snapshot: Snapshot, limit: int, ages: Ages | None) -> _Counts:
    counts = {name: totals.count for name, totals in snapshot.types.items()}
    kept = {name: counts[name] for name in largest(counts, limit)}
    return _Counts(sum(counts.values()), kept, len(kept) == len(counts), ages)
