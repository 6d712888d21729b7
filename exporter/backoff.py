"""How long to wait after failures: full jitter, doubling, capped."""

from __future__ import annotations

import random

CAP_SECONDS = 10.0


class Backoff:
    """Counts failures in a row and says from when on the next try is due.

    Full jitter, so that many exporters don't come back at once:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, base_seconds: float = 0.2) -> None:
        self._base_seconds = base_seconds
        self._failures = 0
        self.due_at = float("-inf")
        """From when on the next try may be made (monotonic seconds); minus infinity: at once."""

    def failed(self, now: float) -> None:
        """Note a failure at `now` (monotonic seconds). Those that come while it waits already are the same failure."""
        if not self.due(now):
            return
        ceiling = min(CAP_SECONDS, self._base_seconds * 2 ** min(self._failures, 16))
        self._failures += 1
        self.due_at = now + random.uniform(self._base_seconds / 2, ceiling)  # noqa: S311 - jitter is no secret

    def succeeded(self) -> None:
        """Forget the failures."""
        self._failures = 0
        self.due_at = float("-inf")

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def due(self, now: float) -> bool:
        """Whether the next try may be made at `now`."""
        return now >= self.due_at
