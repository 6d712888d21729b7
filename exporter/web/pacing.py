"""Limits the web server's share of the processor, so that its clients can't slow the consumer down."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

SHARE = 0.12
"""Of one core. Python runs one thread of a process at a time, so what the web server takes the consumer lacks."""
BURST_SECONDS = 0.3
"""Processor time at once, after a while with less than the share: twice what a scrape of 10,000 new types takes."""
LONGEST_REST_SECONDS = 0.05
POLL_SECONDS = 0.001
"""Between two looks at the connections while there is other work: each look hands Python's lock to the consumer."""
EVENTS_AT_ONCE = 16
"""Connections that are served between two looks at the time."""


class Look(NamedTuple):
    """A look at the clocks, in seconds."""

    now: float
    cpu: float
    """Taken by this thread."""


def look() -> Look:
    """Look at the clocks."""
    return Look(time.monotonic(), time.thread_time())


class Pace:
    """Says how long a thread has to rest so that it takes no more than its share of the processor."""

    def __init__(self) -> None:
        self._before: Look | None = None
        self._allowed = BURST_SECONDS

    @property
    def busy(self) -> bool:
        """Whether more than half of what may be taken at once is taken: work that can wait should wait now."""
        return self._allowed < BURST_SECONDS / 2

    def rest_seconds(self, seen: Look) -> float:
        """Return how long to rest now; `seen` is a look at the clocks from the thread itself."""
        before, self._before = self._before, seen
        if before is None:
            return 0.0
        self._allowed += (seen.now - before.now) * SHARE - (seen.cpu - before.cpu)
        self._allowed = min(BURST_SECONDS, self._allowed)
        return min(max(0.0, -self._allowed / SHARE), LONGEST_REST_SECONDS)


class PacedSelector(selectors.DefaultSelector):
    """A selector that rests where its event loop has taken more than its share of the processor.

    It is the one place through which all work of an event loop passes: requests, new connections, TLS handshakes and
    garbage alike. No request is refused; where there are too many, all wait a little.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        first: Collection[int] = (),
        look: Callable[[], Look] = look,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`first` are descriptors that go before all others where they are ready: those that are listened on."""
        super().__init__()
        self._pace = pace
        self._first = first
        self._look = look
        self._sleep = sleep
        self._next_descriptor = 0
        self._poll_at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Rest where that is due; then return some of what is ready, connections in the order of their descriptors."""
        seen = self._look()
        if timeout == 0 and seen.now < self._poll_at:
            return []
        rest_seconds = self._pace.rest_seconds(seen)
        if rest_seconds:
            self._sleep(rest_seconds)
        events = super().select(timeout)
        self._poll_at = self._look().now + POLL_SECONDS
        if len(events) > EVENTS_AT_ONCE:
            begin = self._next_descriptor
            events.sort(key=lambda event: (event[0].fd not in self._first, event[0].fd < begin, event[0].fd))
            del events[EVENTS_AT_ONCE:]
            self._next_descriptor = events[-1][0].fd + 1
        return events
