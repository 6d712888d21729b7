"""How many receives to keep in flight, and from when on: one on a quiet queue, more as batches come back full."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exporter.backoff import Backoff
from exporter.sqs import BATCH_SIZE

if TYPE_CHECKING:
    from exporter.consumer.batch_window import BatchWindow

EMPTY_SECONDS = 1.0
"""How far apart receives are that find nothing, even where they don't wait: AWS bills each."""


class Pacing:
    """Widens by one for each full batch of a backlog, narrows by one for each that is less than half full.

    So an idle exporter costs one long poll every wait, and a backlog is met within `most` answers. Between the two
    the batch window says how many receives are due when. One that is in flight by then counts: it has found the queue
    empty, and waits there already. Failures restart it all, after a backoff.
    """

    def __init__(self, most: int, window: BatchWindow) -> None:
        self._most = most
        self._window = window
        self._width = 1
        self._backoff = Backoff()
        self._idle_until = -math.inf

    def answered(self, messages: int, sent_at: float, answered_at: float, oldest_seconds: float = 0.0) -> None:
        """Note an answer with so many messages to a receive sent at `sent_at` (monotonic seconds).

        `oldest_seconds`: as in `BatchWindow.answered`.
        """
        self._backoff.succeeded()
        self._idle_until = -math.inf if messages else sent_at + EMPTY_SECONDS
        self._window.answered(messages, sent_at, answered_at, oldest_seconds)
        if messages >= BATCH_SIZE:
            if not self._window.receives:
                self._width = min(self._most, self._width + 1)
        elif messages < BATCH_SIZE // 2:
            self._width = max(1, self._width - 1)

    def failed(self, now: float) -> None:
        """Note a failed receive at `now` (monotonic seconds)."""
        self._width = 1
        self._window.restart()
        self._backoff.failed(now)

    def wanted(self, in_flight: int, now: float) -> int:
        """How many receives to send now, with `in_flight` under way."""
        return 0 if now < self.due_at(in_flight) else self._missing(in_flight)

    def due_at(self, in_flight: int) -> float:
        """When the next receive is to be sent, with `in_flight` under way; infinity: not before one is answered."""
        if not self._missing(in_flight):
            return math.inf
        return max(self._idle_until, self._backoff.due_at, self._window.receives_due_at)

    def _missing(self, in_flight: int) -> int:
        return max(0, min(self._most, self._window.receives or self._width) - in_flight)
