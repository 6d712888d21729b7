"""Whether the exporter does its job now, and if not, why: one sentence for `/-/ready`, the log and the landing page."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIGN_OF_LIFE_SECONDS = 28.0
"""A long poll lasts 20 s and is given 5 s more; without an answer after this, SQS is out of reach."""
FAILING_SECONDS = 5.0
"""How long calls may fail in a row (one reset, one throttled call) before it is worth anyone's attention."""
DELETES_TRIED_SECONDS = 60.0
"""After this long without a failed delete none is left to try: their messages are gone, or come back."""
ITERATION_LIMIT_SECONDS = 60.0
AT_ONCE = frozenset({"access_denied", "credentials", "queue_not_found", "kms", "tls", "clock_skew"})
"""Failures that do not pass by themselves within seconds."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `/-/ready` answers, as of one moment."""

    ready: bool
    """False where the ledger or every queue fails."""
    sentence: str
    """One line: "Ready.", or what stands in the way and where."""
    queues: Mapping[str, str | None] = field(default_factory=dict)
    """By queue: why nothing is counted from it, or None."""


@dataclass(frozen=True, slots=True)
class _Failing:
    """Calls that have failed since `since`, last at `last` for this reason (monotonic seconds)."""

    since: float
    last: float
    reason: str
    detail: str

    def lasts(self, now: float) -> bool:
        return self.reason in AT_ONCE or now - self.since >= FAILING_SECONDS


class Readiness:
    """Written by the consumer's thread, read by any: each attribute is replaced whole.

    `set(part, sentence)` and `clear(part)` are for obstacles that last until they are lifted; of several, the one set
    first is told.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._obstacles: dict[str, str] = {}
        self._iterated_at = monotonic()
        self._succeeded_at: float | None = None
        self._not_asked_until = float("-inf")
        self._receives_failing: _Failing | None = None
        self._deletes_failing: _Failing | None = None

    def set(self, part: str, sentence: str) -> None:
        """Say what stands in the way."""
        if self._obstacles.get(part) != sentence:
            self._obstacles = {**self._obstacles, part: sentence}

    def clear(self, part: str) -> None:
        """Say that it does so no longer."""
        if part in self._obstacles:
            self._obstacles = {name: why for name, why in self._obstacles.items() if name != part}

    def iterated(self, now: float) -> None:
        """The loop has ended an iteration at `now` (monotonic seconds)."""
        self._iterated_at = now

    def receive_succeeded(self, at: float) -> None:
        """SQS answered a receive as it should at `at` (monotonic seconds)."""
        self._succeeded_at = at
        self._receives_failing = None

    def receive_failed(self, at: float, reason: str, detail: str) -> None:
        """A receive failed at `at` (monotonic seconds), or brought nothing that can be used."""
        self._receives_failing = _again(self._receives_failing, at, reason, detail)

    def receives_pause(self, at: float) -> None:
        """Nothing is asked of SQS at `at` (monotonic seconds): its silence says nothing."""
        self._not_asked_until = at

    def deletes_succeeded(self) -> None:
        """SQS confirmed a delete."""
        self._deletes_failing = None
        self.clear("deletes")

    def deletes_failed(self, at: float, reason: str, detail: str) -> None:
        """Nothing of a batch delete was confirmed at `at` (monotonic seconds)."""
        self._deletes_failing = _again(self._deletes_failing, at, reason, detail)
        if reason == "access_denied":
            self.set(
                "deletes", f"SQS denies sqs:DeleteMessage, so no messages are taken: grant it on the queue ({detail})"
            )

    def healthy(self) -> bool:
        """Whether the loop goes on. An outage of SQS leaves it healthy: a restart would mend nothing."""
        return self._monotonic() - self._iterated_at < ITERATION_LIMIT_SECONDS

    def why_not(self) -> str | None:
        """Return None when ready, else why not."""
        for sentence in self._obstacles.values():
            return sentence
        now = self._monotonic()
        receives, deletes = self._receives_failing, self._deletes_failing
        if receives is not None and (receives.lasts(now) or self._succeeded_at is None):
            return f"receives fail ({receives.reason}): {receives.detail}"
        if deletes is not None and deletes.lasts(now) and now - deletes.last < DELETES_TRIED_SECONDS:
            return f"deletes fail ({deletes.reason}), so messages come back and are recognised: {deletes.detail}"
        if self._succeeded_at is None:
            return "no receive has succeeded yet"
        silent_seconds = now - max(self._succeeded_at, self._not_asked_until)
        if silent_seconds >= SIGN_OF_LIFE_SECONDS:
            return f"SQS has not answered a receive for {silent_seconds:.0f} s"
        return None


def _again(failing: _Failing | None, at: float, reason: str, detail: str) -> _Failing:
    if failing is None:
        return _Failing(at, at, reason, detail)
    return replace(failing, last=at, reason=reason, detail=detail)
