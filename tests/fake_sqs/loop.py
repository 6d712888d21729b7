"""A loop over sockets, pipes and timers: a third of what a request costs in asyncio, for the sake of benchmarks."""

from __future__ import annotations

import heapq
import selectors
import time
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Loop:
    """Calls back when a socket or pipe is ready and when a time has come, all on one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._stopped = False

    @staticmethod
    def time() -> float:
        """Return seconds on the loop's clock, which is never set."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, after so many seconds."""
        heapq.heappush(self._timers, (self.time() + seconds, next(self._order), callback))

    def watch(self, file: socket.socket | int, callback: Callable[[int], None], events: int = READ) -> None:
        """Call back with the events that happened, whenever one of `events` does."""
        self._selector.register(file, events, callback)

    def watch_for(self, file: socket.socket | int, callback: Callable[[int], None], events: int) -> None:
        """Change the events that are waited for."""
        self._selector.modify(file, events, callback)

    def forget(self, file: socket.socket | int) -> None:
        """Watch no longer. To be called before the file is closed."""
        self._selector.unregister(file)

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped = True

    def run(self) -> None:
        """Serve callbacks until `stop`."""
        select = self._selector.select
        while not self._stopped:
            wait_seconds = self._timers[0][0] - self.time() if self._timers else None
            for key, events in select(wait_seconds):
                key.data(events)
            while self._timers and self._timers[0][0] <= self.time():
                heapq.heappop(self._timers)[2]()
