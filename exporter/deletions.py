"""The deletes that SQS has not confirmed yet: packed by ten, tried again while their receipt handles live."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exporter.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.sqs.calls import Deletion

BATCH_SIZE = 10
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html"""


class Deletions:
    """Deletions waiting to be sent, sent, or waiting to be sent again.

    One that could not be confirmed while its handle was valid is dropped: the message comes back after its visibility
    timeout, is recognised, and is deleted with its fresh handle.
    """

    def __init__(self) -> None:
        self._waiting: deque[Deletion] = deque()
        self._failed: list[Deletion] = []
        self._backoff = Backoff(base_seconds=1.0)
        self._sent = 0

    @property
    def unconfirmed(self) -> int:
        """How many are not confirmed yet, whether sent or not."""
        return len(self._waiting) + len(self._failed) + self._sent

    def add(self, deletions: Iterable[Deletion]) -> None:
        """Take in deletions of messages whose outcome is committed."""
        self._waiting.extend(deletions)

    def batches(self, now: float, most: int) -> Iterator[Sequence[Deletion]]:
        """Yield what to send now: batches of at most ten, at most `most` of them, none whose handle is over."""
        if self._failed and self._backoff.due(now):
            self._waiting.extend(deletion for deletion in self._failed if deletion.valid_until > now)
            self._failed.clear()
        for _ in range(most):
            if not self._waiting:
                return
            batch: list[Deletion] = []
            while self._waiting and len(batch) < BATCH_SIZE:
                deletion = self._waiting.popleft()
                if deletion.valid_until > now:
                    batch.append(deletion)
            if batch:
                self._sent += len(batch)
                yield batch

    def confirmed(self, deletions: Sequence[Deletion]) -> None:
        """SQS said that these are deleted."""
        self._sent -= len(deletions)
        if not self._failed:
            self._backoff.succeeded()

    def failed(self, deletions: Sequence[Deletion], now: float) -> None:
        """SQS did not say that these are deleted: they are tried again, after a while."""
        self._sent -= len(deletions)
        self._failed.extend(deletions)
        if deletions:
            self._backoff.failed(now)

    def drop(self) -> None:
        """Forget all that is not sent: what is in flight still answers."""
        self._waiting.clear()
        self._failed.clear()
