"""A FIFO queue: groups in their order, a group blocked while one of its messages is in flight, duplicates dropped.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from fake_sqs.queues import TIMES_BITS, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fake_sqs.queues import World

DEDUPLICATION_SECONDS = 300.0
GROUPS = 10
"""Among so many groups messages are spread that were sent without one, by the test itself."""


class FifoQueue(Queue):
    """One FIFO queue."""

    def __init__(self, world: World, name: str, arn: str) -> None:
        super().__init__(world, name, arn)
        self._ordered: list[int] = []
        self._group_of: dict[int, str] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        self._attempts: dict[str, tuple[Sequence[int], float]] = {}

    @property
    def available(self) -> int:
        """Messages whose group is not blocked."""
        blocked = self._blocked()
        return sum(self._group(number) not in blocked for number in self._ordered)

    def put(self, numbers: range) -> None:
        """Make messages available, each at its place."""
        self._put_in_order(numbers)

    def group(self, number: int, name: str) -> None:
        """Say which group a message belongs to."""
        self._group_of[number] = name

    def first_of(self, deduplication_id: str, number: int) -> int:
        """Return the message that was sent first with this id in the last five minutes: it may be this one."""
        now = self._world.clock.now()
        first, at = self._seen.get(deduplication_id, (number, now))
        if now - at >= DEDUPLICATION_SECONDS:
            first, at = number, now
        self._seen[deduplication_id] = first, at
        return first

    def receive(
        self, limit: int, visibility_timeout_seconds: float | None, attempt: str | None = None
    ) -> Sequence[int]:
        """Hand out messages; the same ones again where the same attempt is repeated while they are in flight."""
        self.tidy()
        now = self._world.clock.now()
        keys, at = self._attempts.get(attempt or "", ((), now))
        if keys and now - at < DEDUPLICATION_SECONDS and all(key in self._in_flight for key in keys):
            return keys
        keys = super().receive(limit, visibility_timeout_seconds)
        if attempt is not None and keys:
            self._attempts[attempt] = keys, now
        return keys

    def tidy(self) -> None:
        """Bring back what is due, each message to its place."""
        super().tidy()
        self._put_in_order(self._returned)
        self._returned.clear()

    def _take(self, limit: int) -> list[int]:
        blocked = self._blocked()
        taken: list[int] = []
        for number in list(self._ordered):
            if len(taken) >= limit:
                break
            if self._group(number) in blocked:
                continue
            self._ordered.remove(number)
            taken.extend(self._without_redriven(self._without_expired((number,))))
        return taken

    def _put_in_order(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            insort(self._ordered, number)

    def _blocked(self) -> set[str]:
        return {self._group(key >> TIMES_BITS) for key in self._in_flight}

    def _group(self, number: int) -> str:
        return self._group_of.get(number) or f"group-{number % GROUPS}"
