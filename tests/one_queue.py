"""One queue of a ledger in a file, driven step by step as the consumer does it, with the ledger's errors raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.ledger import Delivery, Ledger, QueueBatch, QueueIdentity, Snapshot
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from exporter.ledger import Batch

ARN = "arn:aws:sqs:eu-central-1:123456789012:orders"
QUEUE = QueueIdentity("orders", ARN, visibility_timeout_seconds=30, retention_seconds=86_400)
WINDOW_SECONDS = 3_600


def commit(ledger: Ledger, batch: Batch) -> Mapping[str, Sequence[bool]]:
    """Submit a batch and wait for its end; raises LedgerError where it failed."""
    ledger.submit(batch)
    completed = ledger.completed()
    assert completed is not None
    if completed.error is not None:
        raise completed.error
    assert completed.fresh is not None
    return completed.fresh


class OneQueue:
    """A ledger as one of its queues sees it."""

    def __init__(self, ledger: Ledger, name: str = QUEUE.name) -> None:
        self.ledger = ledger
        self._name = name

    @property
    def snapshot(self) -> Snapshot:
        """What is committed."""
        return self.ledger.snapshots[self._name]

    @property
    def limited(self) -> str | None:
        """Why receives are slowed down."""
        return self.ledger.limited(self._name)

    @property
    def capacity(self) -> int:
        """How many more messages may be taken."""
        return self.ledger.capacity(self._name)

    def bind(self, queue: QueueIdentity) -> None:
        """Take the queue up; raises LedgerError where its rows belong to another."""
        self.ledger.bind(queue)
        self.ledger.bound(queue.name)

    def advance(self, seconds: float) -> None:
        """Let receives succeed for a while."""
        self.ledger.advance(self._name, seconds)

    def record(self, deliveries: Sequence[Delivery], released: Mapping[str, int]) -> Sequence[bool]:
        """Commit deliveries; returns for each whether it was new."""
        return commit(self.ledger, {self._name: QueueBatch(deliveries, released)})[self._name]

    def settle(self, message_ids: Iterable[bytes]) -> None:
        """Say that messages are gone."""
        self.ledger.settle(self._name, message_ids)

    def flush(self) -> None:
        """Write what waits."""
        commit(self.ledger, {})

    def reopen(self) -> None:
        """Open again; raises LedgerError where that failed."""
        self.ledger.reopen()
        if self.ledger.problem is not None:
            raise self.ledger.problem

    def close(self) -> None:
        """Write what waits, and close."""
        self.ledger.close()


class Clock:
    """Unix time and the monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.monotonic = 50.0


class Opened:
    """A ledger that can be opened again and again in one place."""

    def __init__(self, path: Path, queue: QueueIdentity = QUEUE) -> None:
        """Tie it to `queue` where nothing else is said."""
        self.clock = Clock()
        self.path = path
        self._queue = queue
        self._open: list[OneQueue] = []

    def __call__(
        self,
        queue: QueueIdentity | None = None,
        *,
        bound: bool = True,
        **settings: Any,  # noqa: ANN401 - the ledger's settings
    ) -> OneQueue:
        """Open the ledger, tied to its queue unless it is told otherwise."""
        self.close()
        queue = queue or self._queue
        defaults: dict[str, Any] = {
            "queues": (queue.name,),
            "window_seconds": WINDOW_SECONDS,
            "wall_clock": lambda: self.clock.wall,
            "monotonic": lambda: self.clock.monotonic,
        }
        ledger = OneQueue(SqliteLedger(str(self.path), **defaults | settings), queue.name)
        self._open.append(ledger)
        if bound:
            ledger.bind(queue)
        return ledger

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.pop().close()
