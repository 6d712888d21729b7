"""Whether the exporter does its job now, and if not, why: one sentence for `/-/ready`, the log and the landing page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SIGN_OF_LIFE_SECONDS = 28.0
"""A long poll lasts 20 s and is given 5 s more; without an answer after this, SQS is out of reach."""
FAILING_SECONDS = 5.0
"""How long receives may fail in a row (one reset, one throttled call) before it is worth anyone's attention."""
TURN_LIMIT_SECONDS = 60.0
AT_ONCE = frozenset({"access_denied", "credentials", "queue_not_found", "kms", "tls", "clock_skew"})
"""Failures that do not pass by themselves within seconds."""


class Readiness:
    """Written by the consumer's thread, read by any: each attribute is replaced whole.

    `set(part, sentence)` and `clear(part)` are for obstacles that last until they are lifted; of several, the one set
    first is told.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._obstacles: dict[str, str] = {}
        self._turned_at = monotonic()
        self._succeeded_at: float | None = None
        self._failing: tuple[float, str, str] | None = None

    def set(self, part: str, sentence: str) -> None:
        """Say what stands in the way."""
        if self._obstacles.get(part) != sentence:
            self._obstacles = {**self._obstacles, part: sentence}

    def clear(self, part: str) -> None:
        """Say that it does so no longer."""
        if part in self._obstacles:
            self._obstacles = {name: why for name, why in self._obstacles.items() if name != part}

    def turned(self, now: float) -> None:
        """The loop has made a turn at `now` (monotonic seconds)."""
        self._turned_at = now

    def receive_succeeded(self, at: float) -> None:
        """SQS answered a receive as it should at `at` (monotonic seconds)."""
        self._succeeded_at = at
        self._failing = None

    def receive_failed(self, at: float, reason: str, detail: str) -> None:
        """A receive failed at `at` (monotonic seconds)."""
        self._failing = (self._failing[0] if self._failing else at, reason, detail)

    def healthy(self) -> bool:
        """Whether the loop turns. An outage of SQS leaves it healthy: a restart would mend nothing."""
        return self._monotonic() - self._turned_at < TURN_LIMIT_SECONDS

    def why_not(self) -> str | None:
        """Return None when ready, else why not."""
        for sentence in self._obstacles.values():
            return sentence
        now = self._monotonic()
        if self._failing is not None:
            since, reason, detail = self._failing
            if reason in AT_ONCE or now - since >= FAILING_SECONDS or self._succeeded_at is None:
                return f"receives fail ({reason}): {detail}"
        if self._succeeded_at is None:
            return "no receive has succeeded yet"
        silent_seconds = now - self._succeeded_at
        if silent_seconds >= SIGN_OF_LIFE_SECONDS:
            return f"SQS has not answered a receive for {silent_seconds:.0f} s"
        return None
