"""Forgets ids that are due, and limits how many messages may be received before others are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.ledger.postgres import statements
from exporter.ledger.postgres.batches import MAX_IDS
from exporter.ledger.postgres.flow import query, retried, single
from exporter.ledger.postgres.replica import fenced

if TYPE_CHECKING:
    from exporter.ledger.postgres.flow import Flow
    from exporter.ledger.postgres.queue import Queue
    from exporter.ledger.postgres.replica import Replica

_AT_ONCE = MAX_IDS // 2
"""Messages, and as many events."""
_FEW = 100
"""Receives count as slowed down where fewer messages than this may be taken."""
_LOOK_AT_ALL_SECONDS = 60.0
"""How soon an id is forgotten that was settled after it was due. Not at once, as what is gone is still in the way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long ids are remembered and how many of each queue. Times are on the queue's own clock.

    No id is dropped that is younger than twice the queue's visibility timeout, whatever the windows are.
    """

    window_seconds: float
    id_window_seconds: float
    max_ids: int

    def capacity(self, queue: Queue) -> int:
        """Return how many more messages of a queue may be taken: this replica's share of what is free."""
        if queue.id is None:
            return 0
        ids_a_message = 2 if queue.identity.event_ids else 1
        free = max(0, self.max_ids - queue.known.ids - queue.added_ids)
        return free // (max(1, queue.known.replicas) * ids_a_message)

    def limited(self, queue: Queue) -> str | None:
        """Return why this queue's receives are slowed down."""
        if queue.id is None or self.capacity(queue) >= min(_FEW, self.max_ids // 10):
            return None
        return (
            f"the ledger remembers {queue.known.ids + queue.added_ids} ids of queue {queue.identity.name}, of at most"
            f" {self.max_ids}, and none of them may be forgotten yet: raise --ledger.max-ids"
        )

    def excess(self, queue: Queue) -> int:
        """Return how many ids have to go early, so that each replica may commit one more statement."""
        reserve = min(MAX_IDS * queue.known.replicas, self.max_ids // 4)
        return queue.known.ids + queue.added_ids + reserve - self.max_ids


def prune(replica: Replica, queue: Queue, limits: Limits) -> Flow[None]:
    """Forget what is due of one queue, or has to go early; a bounded number, and again where more may be due."""
    if queue.id is None:
        return
    clock = queue.known.clock_seconds
    old_enough = clock - 2 * queue.identity.visibility_timeout_seconds
    due = min(old_enough, int(clock - limits.window_seconds))
    events_due = min(old_enough, int(clock - limits.id_window_seconds))
    until, events_until, most = due, events_due, _AT_ONCE
    excess = limits.excess(queue)
    if excess > 0:
        until = events_until = old_enough
        most = min(most, excess)
    now = time.monotonic()
    if now >= queue.look_at_all_at:
        queue.look_at_all_at = now + _LOOK_AT_ALL_SECONDS
        queue.looked_until = (0, 0)
    rows = yield from retried(
        query(
            statements.PRUNE,
            replica.row.id,
            replica.row.epoch,
            queue.id,
            until,
            min(due, clock - queue.retention_seconds),
            most,
            events_until,
            due,
            events_due,
            *queue.looked_until,
        )
    )
    if not rows:
        raise fenced()
    messages, newest_message, events, newest_event = (0 if value is None else int(value) for value in single(rows))
    queue.known.ids -= messages + events
    queue.looked_until = (
        newest_message if messages == most else max(until, 0),
        newest_event if events == most else max(events_until, 0),
    )
    if most in {messages, events}:
        replica.to_prune[queue.identity.name] = None
