"""One commit as a flow: runs the statements of a batch and finds out which deliveries were new."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger import failpoint
from exporter.ledger.postgres.admission import admit
from exporter.ledger.postgres.batches import MAX_IDS, Chunk, chunks
from exporter.ledger.postgres.encoding import number_list
from exporter.ledger.postgres.flow import retried, single, text
from exporter.ledger.postgres.replica import Replica, fenced

if TYPE_CHECKING:
    from exporter.ledger import Batch, QueueBatch
    from exporter.ledger.postgres.flow import Flow
    from exporter.ledger.postgres.queue import Queue

PRUNE_AFTER = MAX_IDS // 2
"""So many new ids of a queue are reason to look for some to forget."""


@dataclass(slots=True)
class Commit:
    """The commit under way."""

    batch: Batch
    started_at: float
    begun: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    """Those not known to be committed."""
    fresh: dict[str, list[bool]] = field(default_factory=dict)
    done: bool = False

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.started_at


def run(replica: Replica, commit: Commit) -> Flow[None]:
    """Admit what is new, then commit chunk by chunk."""
    for name, of_queue in commit.batch.items():
        queue = replica.queues[name]
        if queue.id is None:
            raise queue.error or LedgerError("unavailable", f"queue {name} is not taken up in PostgreSQL")
        yield from _admit(replica, queue, of_queue)
    commit.begun = True
    commit.chunks = chunks(commit.batch, replica.queues)
    commit.fresh = {name: [False] * len(of_queue.deliveries) for name, of_queue in commit.batch.items()}
    for number, chunk in enumerate(commit.chunks, 1):
        chunk.seq = replica.row.seq + number
    failpoint.reach("in_commit")
    while commit.chunks:
        chunk = commit.chunks[0]
        rows = yield from retried(chunk.statement(replica.row.id, replica.row.epoch, replica.queues))
        if not rows:
            raise fenced()
        seen, duplicates = single(rows)
        if int(text(seen)) != len(chunk.ids):
            raise LedgerError("corrupt", f"PostgreSQL recorded {text(seen)} of {len(chunk.ids)} deliveries")
        commit.chunks.pop(0)
        replica.row.seq = chunk.seq
        _note(replica, commit, chunk, {position - 1 for position in number_list(duplicates)})
    replica.read_soon()
    if not commit.batch and replica.lease.held:
        yield from replica.read()  # after a flush everything that was committed is shown
    commit.done = True


def _admit(replica: Replica, queue: Queue, of_queue: QueueBatch) -> Flow[None]:
    queue.limit_places()
    keys = {delivery.outcome.series for delivery in of_queue.deliveries if not isinstance(delivery.outcome, str)}
    wanted = queue.unplaced(keys)
    if wanted and queue.id is not None:
        queue.series = yield from admit(queue.id, replica.caps, sorted(wanted))
        queue.unplaced(wanted)


def _note(replica: Replica, commit: Commit, chunk: Chunk, duplicates: set[int]) -> None:
    """Take in that a chunk is committed."""
    for position, (name, index) in enumerate(chunk.places):
        if position not in duplicates:
            commit.fresh[name][index] = True
    for name, seconds in chunk.clocks.items():
        queue = replica.queues[name]
        queue.saved_seconds = seconds
        queue.added_ids += chunk.size
        if queue.added_ids >= PRUNE_AFTER:
            replica.to_prune[name] = None
