"""The deletes of one queue that SQS has not confirmed yet: gathered to ten, tried again while their handles live."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exporter.backoff import Backoff
from exporter.sqs import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.consumer.batch_window import BatchWindow
    from exporter.sqs.answers import Deletion

MAX_UNCONFIRMED = 1_000
"""Above this no more messages are taken: they would only come back."""
PROBE_SECONDS = 30.0
"""How often one receive asks whether a denied delete is allowed by now."""
MAX_REFUSED = 500
"""Of the entries that SQS refuses while it deletes others, so many are tried again: they must not stop receives."""


class Deletions:
    """Deletions waiting to be sent, sent, or waiting to be sent again.

    After a batch of which nothing was confirmed they all wait, and then one batch at a time tries whether SQS deletes
    again. One that could not be confirmed while its handle was valid is dropped: the message comes back after its
    visibility timeout, is recognised, and is deleted with its fresh handle.
    """

    def __init__(self, window: BatchWindow, *, fifo: bool = False) -> None:
        """Hold fewer than ten as `window` says; `fifo`: of a FIFO queue."""
        self._window = window
        self._fifo = fifo
        self._waiting: deque[Deletion] = deque()
        self._refused: deque[Deletion] = deque(maxlen=MAX_REFUSED)
        self._failing = False
        self.denied = False
        """Whether SQS denied deletes, and has not confirmed one since."""
        self.come_back_at = float("-inf")
        """Until when messages may be invisible whose deletes were given up; those that SQS refuses don't count."""
        self._probe_at = float("-inf")
        self._failures = Backoff(base_seconds=1.0)
        self._refusals = Backoff(base_seconds=1.0)
        self._sent = 0

    @property
    def failing(self) -> bool:
        """Whether nothing was confirmed of a batch, and nothing since."""
        return self._failing or self.denied

    @property
    def unconfirmed(self) -> int:
        """How many are not confirmed yet, whether sent or not."""
        return len(self._waiting) + len(self._refused) + self._sent

    def receives(self, wanted: int, now: float) -> int:
        """How many of the wanted receives make sense: one now and then while deletes are denied and none is left."""
        if not self.denied:
            return wanted if self.unconfirmed <= MAX_UNCONFIRMED else 0
        if not wanted or self.unconfirmed or now < self._probe_at:
            return 0
        self._probe_at = now + PROBE_SECONDS
        return 1

    def add(self, deletions: Iterable[Deletion]) -> None:
        """Take in deletions of messages whose outcome is committed."""
        self._waiting.extend(deletions)

    def due_at(self, visibility_timeout_seconds: float) -> float:
        """When `batches` has something to send (monotonic seconds; infinity: nothing waits)."""
        refused_at = self._refusals.due_at if self._refused else float("inf")
        if not self._waiting:
            return refused_at
        return max(self._failures.due_at, min(refused_at, self._held_until(visibility_timeout_seconds)))

    def batches(self, now: float, most: int, visibility_timeout_seconds: float) -> Iterator[Sequence[Deletion]]:
        """Yield what to send now: batches of at most ten, at most `most` of them, none whose handle is over."""
        while self._waiting and self._waiting[0].valid_until <= now:
            self._give_up([self._waiting.popleft()])
        if self._refused and self._refusals.due(now):
            self._waiting.extend(self._refused)
            self._refused.clear()
        if not self._failures.due(now):
            return
        if self._failing:
            most = 0 if self._sent else 1
        receives_are_due = now >= self._window.receives_due_at
        for _ in range(most):
            ten_go = receives_are_due and len(self._waiting) >= BATCH_SIZE
            if not self._waiting or (not ten_go and self._are_held(now, visibility_timeout_seconds)):
                return
            taken = [self._waiting.popleft() for _ in range(min(BATCH_SIZE, len(self._waiting)))]
            batch = [deletion for deletion in taken if deletion.valid_until > now]
            if len(batch) < len(taken):
                self._give_up([deletion for deletion in taken if deletion.valid_until <= now])
            if batch:
                self._sent += len(batch)
                yield batch

    def _are_held(self, now: float, visibility_timeout_seconds: float) -> bool:
        # Where the queue's visibility timeout was shortened meanwhile, they seem to have been received in the future.
        received_at = self._waiting[0].valid_until - visibility_timeout_seconds
        return received_at <= now < self._held_until(visibility_timeout_seconds)

    def _held_until(self, visibility_timeout_seconds: float) -> float:
        received_at = self._waiting[0].valid_until - visibility_timeout_seconds
        return self._window.deletes_due_at(len(self._waiting), received_at, visibility_timeout_seconds, fifo=self._fifo)

    def confirmed(self, deletions: Sequence[Deletion]) -> None:
        """SQS said that these are deleted."""
        self._sent -= len(deletions)
        self._failing = self.denied = False
        self._failures.succeeded()
        if self._refusals.failing and any(deletion.refused for deletion in deletions):
            self._refusals.succeeded()

    def refused(self, deletions: Sequence[Deletion], now: float) -> None:
        """SQS deleted others of their batch, but not these: they are tried again, after a while."""
        self._sent -= len(deletions)
        for deletion in deletions:
            deletion.refused = True
        self._refused.extend(deletions)
        if deletions:
            self._refusals.failed(now)

    def failed(self, deletions: Sequence[Deletion], now: float, *, denied: bool = False) -> bool:
        """SQS confirmed nothing of this batch: after a while deletes are tried again, others before these.

        Returns whether that says anything about SQS: not where it has refused them all before.
        """
        self.denied = self.denied or denied
        known = [deletion for deletion in deletions if deletion.refused]
        if known:
            self.refused(known, now)
        if len(known) == len(deletions):
            return denied
        others = [deletion for deletion in deletions if not deletion.refused]
        self._sent -= len(others)
        self._waiting.extend(others)
        self._failing = True
        self._failures.failed(now)
        return True

    def drop(self) -> None:
        """Forget all that is not sent: what is in flight still answers."""
        self._give_up(self._waiting)
        self._waiting.clear()
        self._refused.clear()

    def _give_up(self, deletions: Iterable[Deletion]) -> None:
        valid_until = [deletion.valid_until for deletion in deletions if not deletion.refused]
        self.come_back_at = max([self.come_back_at, *valid_until])
