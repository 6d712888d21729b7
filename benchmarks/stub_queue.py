"""The queues of the stub: when each message arrives, and which receives wait for it."""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from bisect import bisect_right
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar

from stub_events import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stub_events import Load

C = TypeVar("C")


def arrivals(load: Load) -> Sequence[Sequence[float]]:
    """Return for each queue when its messages arrive, in seconds from the load on; empty where all are there at once.

    What arrives goes to the queues one after the other.
    """
    if load.per_second == math.inf:
        return [()] * load.queues
    if load.poisson:
        random = Random(load.messages)  # noqa: S311 - a sample, no secret
        gaps: Iterable[float] = (random.expovariate(load.per_second) for _ in range(load.messages))
        times = array("d", itertools.accumulate(gaps))
    else:
        times = array("d", ((number + 1) / load.per_second for number in range(load.messages)))
    return [times[number :: load.queues] for number in range(load.queues)]


class Queue:
    """The messages of one queue."""

    def __init__(self) -> None:
        self.fill(0, ())

    def fill(self, messages: int, times: Sequence[float]) -> None:
        """Replace what was in it."""
        self._messages = messages
        self._times = times
        self._given = 0

    def there(self, seconds: float) -> int:
        """How many messages there are to receive so many seconds after the load, ten at most."""
        if self._times:
            most = min(self._given + BATCH_SIZE, self._messages)
            return bisect_right(self._times, seconds, self._given, most) - self._given
        return min(BATCH_SIZE, self._messages - self._given)

    def next_at(self) -> float:
        """When the next message is there, in seconds after the load; infinity after the last."""
        if self._given >= self._messages:
            return math.inf
        return self._times[self._given] if self._times else 0.0

    def take(self, count: int) -> Sequence[float]:
        """Hand out so many; returns when they arrived."""
        self._given += count
        return self._times[self._given - count : self._given] if self._times else ()


class LongPolls(Generic[C]):
    """Receives that wait: each is answered once, when a message arrives or when its time is over."""

    def __init__(self) -> None:
        self._ends: list[tuple[float, int, Queue, C]] = []
        self._waiting: dict[Queue, dict[int, C]] = {}
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, queue: Queue, client: C, ends_at: float) -> None:
        """Let a client wait."""
        number = next(self._numbers)
        heapq.heappush(self._ends, (ends_at, number, queue, client))
        self._waiting.setdefault(queue, {})[number] = client

    def queues(self) -> Sequence[Queue]:
        """Return the queues at which somebody waits."""
        return list(self._waiting)

    def first(self, queue: Queue) -> C | None:
        """Take the one out that has waited longest at this queue."""
        waiting = self._waiting.get(queue)
        return self._remove(queue, next(iter(waiting))) if waiting else None

    def over(self, now: float) -> C | None:
        """Take one out that has waited as long as it wanted to."""
        while self._ends and self._ends[0][0] <= now:
            _, number, queue, client = heapq.heappop(self._ends)
            if number in self._waiting.get(queue, ()):
                self._remove(queue, number)
                return client
        return None

    def next_end(self) -> float:
        """When the next one has waited long enough; infinity if none waits."""
        while self._ends and self._ends[0][1] not in self._waiting.get(self._ends[0][2], ()):
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else math.inf

    def drop(self, client: C) -> None:
        """Forget a client whose connection is gone."""
        for queue in self.queues():
            for number in [number for number, one in self._waiting[queue].items() if one is client]:
                self._remove(queue, number)

    def _remove(self, queue: Queue, number: int) -> C:
        client = self._waiting[queue].pop(number)
        if not self._waiting[queue]:
            del self._waiting[queue]
        return client
