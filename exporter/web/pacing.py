"""Limits the web server's share of the time, so that its clients can't slow the consumer down."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

SHARE = 0.2
"""Of the time. Python runs one thread of a process at a time, so while the web server works the consumer may wait.

Processor time would say less: a thread that holds Python's lock and has to wait for a processor takes none.
"""
BURST_SECONDS = 0.5
"""Of work at once, after a while with less than the share: twice what a scrape of 10,000 new types takes."""
LONGEST_REST_SECONDS = 0.05
POLL_SECONDS = 0.001
"""Between two looks at the connections while there is other work: each look hands Python's lock to the consumer."""
EVENTS_AT_ONCE = 16
"""Connections that are served between two looks at the time."""


class Pace:
    """Says how long a thread has to rest so that it works no more than its share of the time."""

    def __init__(self) -> None:
        self._allowed_seconds = BURST_SECONDS
        self._began_at: float | None = None
        self._looked_at = 0.0
        self._hurries = False

    def hurry(self) -> None:
        """Rest no more: the server ends, and has little time for that."""
        self._hurries = True

    @property
    def busy(self) -> bool:
        """Whether half of what may be done at once is done: work that can wait should wait now."""
        return self._allowed_seconds < BURST_SECONDS / 2

    def begin(self, now: float) -> None:
        """Note that the thread works from now on."""
        if self._began_at is None:
            self._looked_at = now
        self._began_at = now

    def rest_seconds(self, now: float) -> float:
        """Return how long to rest: the thread has worked until now."""
        if self._began_at is None or self._hurries:
            return 0.0
        earned_seconds, worked_seconds = (now - self._looked_at) * SHARE, now - self._began_at
        self._looked_at = self._began_at = now
        allowed_seconds = self._allowed_seconds + earned_seconds - worked_seconds
        # A process that was stopped for an hour has not worked for an hour.
        self._allowed_seconds = max(-BURST_SECONDS, min(BURST_SECONDS, allowed_seconds))
        return min(max(0.0, -self._allowed_seconds / SHARE), LONGEST_REST_SECONDS)


class PacedSelector(selectors.DefaultSelector):
    """A selector that rests where its event loop has worked more than its share of the time.

    It is the one place through which all work of an event loop passes: requests, new connections, TLS handshakes and
    garbage alike. No request is refused; where there are too many, all wait a little.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        first: Collection[int] = (),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`first` are descriptors that go before all others where they are ready: those that are listened on."""
        super().__init__()
        self._pace = pace
        self._first = first
        self._monotonic = monotonic
        self._sleep = sleep
        self._next_descriptor = 0
        self._poll_at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Rest where that is due; then return some of what is ready, connections in the order of their descriptors."""
        now = self._monotonic()
        if timeout == 0 and now < self._poll_at:
            return []
        rest_seconds = self._pace.rest_seconds(now)
        if rest_seconds:
            self._sleep(rest_seconds)
        events = super().select(timeout)
        now = self._monotonic()
        self._pace.begin(now)
        self._poll_at = now + POLL_SECONDS
        if len(events) > EVENTS_AT_ONCE:
            begin = self._next_descriptor
            events.sort(key=lambda event: (event[0].fd not in self._first, event[0].fd < begin, event[0].fd))
            del events[EVENTS_AT_ONCE:]
            self._next_descriptor = events[-1][0].fd + 1
        return events
