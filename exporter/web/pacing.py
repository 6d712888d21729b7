"""Limits the web server's share of the processor, so that its clients can't slow the consumer down."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

SHARE = 0.25
"""Of one core, for as long as the rest of the process is busy: Python runs one thread of a process at a time."""
IN_ALL = 0.9
"""Of one core, for the rest of the process and the web server together: what others leave may be taken."""
BURST_SECONDS = 0.1
"""Processor time at once, after a while with less than the share: a scrape of 10,000 types."""
LONGEST_REST_SECONDS = 0.05
SMOOTHING_SECONDS = 0.1
"""Over how long the rest of the process is looked at."""
EVENTS_AT_ONCE = 16
"""Connections that are served between two looks at the time."""


class Look(NamedTuple):
    """A look at the clocks, in seconds."""

    now: float
    own_cpu: float
    """Of this thread."""
    all_cpu: float
    """Of the whole process."""


def look() -> Look:
    """Look at the clocks."""
    return Look(time.monotonic(), time.thread_time(), time.process_time())


class Pace:
    """Says how long a thread has to rest so that it takes no more than its share of the processor."""

    def __init__(self) -> None:
        self._before: Look | None = None
        self._allowed = BURST_SECONDS
        self._others = 0.0

    def rest_seconds(self, seen: Look) -> float:
        """Return how long to rest now; `seen` is a look at the clocks from the thread itself."""
        before, self._before = self._before, seen
        if before is None or seen.now <= before.now:
            return 0.0
        seconds, own = seen.now - before.now, seen.own_cpu - before.own_cpu
        others = max(0.0, seen.all_cpu - before.all_cpu - own) / seconds
        self._others += (others - self._others) * min(1.0, seconds / SMOOTHING_SECONDS)
        share = max(SHARE, IN_ALL - self._others)
        self._allowed = min(BURST_SECONDS, self._allowed + seconds * share - own)
        return min(max(0.0, -self._allowed / share), LONGEST_REST_SECONDS)


class PacedSelector(selectors.DefaultSelector):
    """A selector that rests where its event loop has taken more than its share of the processor.

    It is the one place through which all work of an event loop passes: requests, new connections, TLS handshakes and
    garbage alike. No request is refused; where there are too many, all wait a little.
    """

    def __init__(self, look: Callable[[], Look] = look, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__()
        self._look = look
        self._sleep = sleep
        self._pace = Pace()
        self._next_descriptor = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Rest where that is due; then return some of the ready connections, in the order of their descriptors."""
        rest_seconds = self._pace.rest_seconds(self._look())
        if rest_seconds:
            self._sleep(rest_seconds)
        events = super().select(timeout)
        if len(events) > EVENTS_AT_ONCE:
            first = self._next_descriptor
            events.sort(key=lambda event: (event[0].fd < first, event[0].fd))
            del events[EVENTS_AT_ONCE:]
            self._next_descriptor = events[-1][0].fd + 1
        return events
