"""The speaker's lease: one replica at a time shows what the ledger keeps.

The row is on the database's clock and ends LEASE_SECONDS after the server wrote it. The holder counts from before it
sent the renewal, so it falls silent before another one may begin, and on a clock that goes on while the machine sleeps.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_SECONDS = 5.0
RENEWAL_SECONDS = 1.0
_DRIFT_SECONDS = 0.05
"""By how much two clocks may differ over one lease: far more than clocks that work do."""


def boottime() -> float:
    """Return seconds since the machine started, those in which it slept included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """What this process knows of the lease. `held` may be read from any thread."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._clock = clock
        self._asked_at = 0.0
        self._until = float("-inf")
        self.term: int | None = None
        """Counts the changes of the speaker; None: this replica is not it."""
        self.since_seconds = 0.0
        """When it became the speaker, Unix time on the database's clock."""

    @property
    def held(self) -> bool:
        """Whether this replica is the speaker, now."""
        return self._clock() < self._until

    def asked(self) -> None:
        """Note that a renewal is about to be sent."""
        self._asked_at = self._clock()

    def answered(self, term: int | None, at_seconds: float = 0.0) -> None:
        """Take in the answer: the term (None: another replica holds the lease), and the database's time."""
        if term != self.term:
            self.since_seconds = at_seconds
        self.term = term
        self._until = float("-inf") if term is None else self._asked_at + LEASE_SECONDS - _DRIFT_SECONDS

    def give_up(self) -> None:
        """Fall silent at once."""
        self.answered(None)
