"""How fast messages may be received so that a limited memory of ids (`--ledger.max-ids`) is never full. Pure: no I/O.

An id can't be dropped before it is old enough. A memory that filled up at full speed would stop all receives until
then. So once it is half full, what is left of it is spread over the time until its oldest ids may be dropped; in the
end that is `max_ids` in `protected_seconds`.
"""

from __future__ import annotations

from collections import deque

RECEIVE = 10
"""The most that one receive brings. Capacity for fewer is of no use: a receive is sent only where ten may come."""
_RESERVE = 1_000
"""More than the receives in flight bring, however many ids may be remembered."""
_STRETCH_SECONDS = 0.25
"""How finely ids are told apart by age."""
_TOLD_FOR_SECONDS = 10.0
"""How long readiness goes on to say that receives are slowed down after they were."""


def reserved_ids(max_ids: int) -> int:
    """How many of `max_ids` are kept free for the next messages, as far as ids are old enough to be dropped."""
    return min(_RESERVE, max(RECEIVE, max_ids // 10))


class IntakeLimit:
    """Limits how many messages are received, by how many ids were remembered when.

    All times are in seconds on one clock, the one on which ids grow old. `protected_seconds` is how old an id has to be
    before it may be dropped; 0 means at once.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._stretches: deque[list[float]] = deque()
        self._young = 0
        self._old_unsettled = 0
        self._free = max_ids
        self._now = 0.0
        self._allowance = float(max_ids)
        self._short_until = float("-inf")
        self._reserved_ids = reserved_ids(max_ids)
        self.protected_seconds = 0.0
        self.spread = False
        """Whether what may come is spread over time: half of the memory can't be dropped yet, or it is full."""

    @property
    def short(self) -> bool:
        """Whether receives are slowed down, or were a moment ago."""
        return self._now < self._short_until

    def take(self, now: float, ids: int) -> None:
        """Note that so many ids were remembered."""
        self._allowance -= ids
        self._young += ids
        if self._stretches and now - self._stretches[-1][0] < _STRETCH_SECONDS:
            self._stretches[-1][1] += ids
        else:
            self._stretches.append([now, ids])

    def pass_time(self, now: float, remembered: int, unsettled: int) -> None:
        """Let time pass up to now, with so many ids remembered and so many of them unsettled."""
        while self._stretches and self._stretches[0][0] + _STRETCH_SECONDS <= now - self.protected_seconds:
            self._young -= int(self._stretches.popleft()[1])
        self._free = self._max_ids - remembered
        self._old_unsettled = max(0, min(remembered - self._young, unsettled))
        full = self._used * 2 >= self._max_ids or self._free < self._reserved_ids
        self.spread = full and self.protected_seconds > 0
        if self.spread:
            rate = self._ids_per_second(now)
            self._allowance = min(self._allowance + rate * max(0.0, now - self._now), max(2.0 * RECEIVE, rate))
        else:
            self._allowance = self._max_ids / 2 - self._used + 2.0 * RECEIVE
        self._now = now
        if self.capacity < RECEIVE:
            self._short_until = now + _TOLD_FOR_SECONDS

    @property
    def capacity(self) -> int:
        """How many more ids may come now."""
        return max(0, min(self._free, int(self._allowance)))

    @property
    def _used(self) -> int:
        return self._young + self._old_unsettled

    def _ids_per_second(self, now: float) -> float:
        free = max(0, self._max_ids - self._used)
        first = self._stretches[0][0] if self._stretches else now
        until_some_are_old = max(_STRETCH_SECONDS, self.protected_seconds - (now - first))
        return min(self._max_ids / self.protected_seconds, free / until_some_are_old)
