"""How many receives to keep in flight: one on a quiet queue, more as batches come back full."""

from __future__ import annotations

from exporter.backoff import Backoff
from exporter.sqs import BATCH_SIZE

EMPTY_SECONDS = 1.0
"""How far apart receives are that find nothing, even where they don't wait: AWS bills each."""


class Pacing:
    """Widens by one for each full batch, narrows by one for each that is less than half full, restarts after failures.

    So an idle exporter costs one long poll every wait, and a backlog is met within `most` answers.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = 1
        self._backoff = Backoff()
        self._idle_until = float("-inf")

    def answered(self, messages: int, sent_at: float) -> None:
        """Note an answer with so many messages to a receive sent at `sent_at` (monotonic seconds)."""
        self._backoff.succeeded()
        self._idle_until = float("-inf") if messages else sent_at + EMPTY_SECONDS
        if messages >= BATCH_SIZE:
            self._width = min(self._most, self._width + 1)
        elif messages < BATCH_SIZE // 2:
            self._width = max(1, self._width - 1)

    def failed(self, now: float) -> None:
        """Note a failed receive at `now` (monotonic seconds)."""
        self._width = 1
        self._backoff.failed(now)

    def wanted(self, in_flight: int, now: float) -> int:
        """How many receives to send now, with `in_flight` under way."""
        if now < self._idle_until or not self._backoff.due(now):
            return 0
        return max(0, self._width - in_flight)
