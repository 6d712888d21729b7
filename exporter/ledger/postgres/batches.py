"""Cuts a batch into statements of at most MAX_IDS ids, each of which is committed whole or not at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.ledger.postgres.connection import Statement
from exporter.ledger.postgres.encoding import numbers, texts, uuids
from exporter.ledger.postgres.statements import COMMIT, DUPLICATE, RELEASED, UNREADABLE, WITHOUT_EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.ledger import Batch, Delivery
    from exporter.ledger.postgres.queue import Queue

MAX_IDS = 2_500
"""Aurora DSQL changes at most 3,000 rows in a transaction, and a statement should be short anywhere."""
_FULL = MAX_IDS - 2
"""With more ids a chunk has no space for a message that has its event's id, too."""
MIN_SAVED_SECONDS = 1.0
"""A queue's clock alone is no reason for a commit before it has run for so long."""


@dataclass(slots=True)
class Chunk:
    """What one statement commits: columns of what is given to it, and what to do if it turns out not to be there."""

    places: list[tuple[str, int]] = field(default_factory=list)
    """Queue and position in its batch of each delivery."""
    queues: list[int] = field(default_factory=list)
    """Of each delivery: the place of its queue in `clocks`, from 1."""
    ids: list[bytes] = field(default_factory=list)
    event_ids: list[bytes | None] = field(default_factory=list)
    series: list[int | None] = field(default_factory=list)
    nanos: list[int | None] = field(default_factory=list)
    occurred: list[float | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    settled: list[tuple[Queue, bytes]] = field(default_factory=list)
    released: list[tuple[Queue, str, int]] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)
    """By queue: deliveries of ids that are in this batch already."""
    clocks: dict[str, float] = field(default_factory=dict)
    """By queue: how long its receives have succeeded."""
    seq: int = 0
    size: int = 0

    def statement(self, replica_id: int, epoch: int, queues: Mapping[str, Queue]) -> Statement:
        """Return the statement that commits it, as the replica's commit number `seq`."""
        row_ids = {name: queues[name].id or 0 for name in self.clocks}
        further = [(queue.id or 0, RELEASED + reason, number) for queue, reason, number in self.released]
        further += [(row_ids[name], DUPLICATE, number) for name, number in self.repeated.items()]
        return Statement(
            COMMIT.encode(),
            [
                str(replica_id),
                str(epoch),
                str(self.seq),
                numbers(row_ids.values()),
                numbers(self.clocks.values()),
                numbers(self.queues),
                uuids(self.ids),
                uuids(self.event_ids),
                numbers(self.series),
                numbers(self.nanos),
                numbers(self.occurred),
                texts(self.reasons),
                numbers(self.flags),
                numbers(queue.id or 0 for queue, _ in self.settled),
                uuids([id_ for _, id_ in self.settled]),
                numbers(queue_id for queue_id, _, _ in further),
                texts(name for _, name, _ in further),
                numbers(number for _, _, number in further),
            ],
        )

    def take_back(self, queues: Mapping[str, Queue]) -> None:
        """Account for it as not committed: its deliveries are released, the rest waits for the next commit."""
        for name, number in [*Counter(name for name, _ in self.places).items(), *self.repeated.items()]:
            queues[name].uncounted["commit_failed"] += number
        for queue, reason, number in self.released:
            queue.uncounted[reason] += number
        for queue, id_ in self.settled:
            queue.settled[id_] = None


def chunks(batch: Batch, queues: Mapping[str, Queue]) -> list[Chunk]:
    """Cut a batch and what waits beside it into chunks. All its series are placed; what waits is taken out."""
    cut = [Chunk()]
    for name, queue in queues.items():
        if queue.id is None:
            continue
        deliveries = batch[name].deliveries if name in batch else ()
        if queue.settled:
            # What was settled and comes again is not gone: this delivery's own delete has to settle it.
            for delivery in deliveries:
                queue.settled.pop(delivery.message_id, None)
        _add_settled(cut, queue)
        _add_deliveries(cut, queue, deliveries)
        _add_released(cut[-1], queue, batch[name].released if name in batch else {})
    return cut if cut[-1].clocks else cut[:-1]


def _add_settled(cut: list[Chunk], queue: Queue) -> None:
    waiting, queue.settled = list(queue.settled), {}
    while waiting:
        chunk = _with_space(cut)
        space = _FULL + 1 - chunk.size
        chunk.clocks[queue.identity.name] = queue.receiving_seconds
        chunk.settled += [(queue, id_) for id_ in waiting[:space]]
        chunk.size += len(waiting[:space])
        del waiting[:space]


def _add_deliveries(cut: list[Chunk], queue: Queue, deliveries: Sequence[Delivery]) -> None:
    name, places, expects_event_id = queue.identity.name, queue.places, queue.identity.event_ids
    seen: set[bytes] = set()
    chunk = None
    for position, delivery in enumerate(deliveries):
        if chunk is None or chunk.size > _FULL:
            chunk = _with_space(cut)
            chunk.clocks[name] = queue.receiving_seconds
        message_id, outcome = delivery.message_id, delivery.outcome
        if message_id in seen:
            chunk.repeated[name] += 1
            continue
        seen.add(message_id)
        event_id = row = nano = occurred = reason = None
        flags = 0
        if isinstance(outcome, str):
            reason = outcome
        else:
            row, flags = places[outcome.series]
            nano, occurred, event_id = outcome.value_nano, outcome.occurred_at_seconds, outcome.event_id
            if occurred is None:
                flags |= UNREADABLE
            if event_id is not None:
                chunk.size += 1
            elif expects_event_id:
                flags |= WITHOUT_EVENT_ID
        chunk.size += 1
        chunk.places.append((name, position))
        chunk.queues.append(len(chunk.clocks))
        chunk.ids.append(message_id)
        chunk.event_ids.append(event_id)
        chunk.series.append(row)
        chunk.nanos.append(nano)
        chunk.occurred.append(occurred)
        chunk.reasons.append(reason)
        chunk.flags.append(flags)


def _add_released(chunk: Chunk, queue: Queue, released: Mapping[str, int]) -> None:
    together, queue.uncounted = queue.uncounted, Counter()
    together.update(released)
    chunk.released += [(queue, reason, number) for reason, number in together.items() if number]
    if together or queue.receiving_seconds - queue.saved_seconds >= MIN_SAVED_SECONDS:
        chunk.clocks[queue.identity.name] = queue.receiving_seconds


def _with_space(cut: list[Chunk]) -> Chunk:
    if cut[-1].size > _FULL:
        cut.append(Chunk())
    return cut[-1]
