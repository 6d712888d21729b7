"""What is on disk, mirrored in memory: loaded once, then moved on by each commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.ledger import Snapshot
from exporter.ledger.sqlite.memory import Limits, Memory, Moment, Pruned, Row, pack_carried
from exporter.ledger.sqlite.queue_row import QueueRow, begin_queue, last_seq, read_identity, read_queue, write_queue
from exporter.ledger.sqlite.total_rows import (
    REJECTED,
    RELEASED,
    read_reasons,
    read_types,
    write_reasons,
    write_types,
)
from exporter.ledger.totals import add, new_series, plus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from exporter.events.event import Event
    from exporter.ledger import SeriesTotals


@dataclass(slots=True)
class Batch:
    """What one commit is to write."""

    received: int = 0
    """Deliveries beside the released ones."""
    outcomes: Sequence[Event | str] = ()
    """Of the new messages."""
    ids: Sequence[bytes] = ()
    """Theirs."""
    renewed: Collection[bytes] = frozenset()
    """The ids of the duplicates of earlier commits."""
    released: Mapping[str, int] = field(default_factory=dict)
    settled: Sequence[bytes] = ()
    begin: Collection[str] = ()
    """Types to show at 0."""
    arn: str | None = None


class Written(NamedTuple):
    """What a commit changes in memory once it succeeded."""

    queue: QueueRow
    row: Row
    ids: Sequence[bytes]
    pruned: Pruned
    types: Mapping[str, SeriesTotals]
    rejected: Mapping[str, int]
    released: Mapping[str, int]

    @property
    def pages(self) -> int:
        """About how many pages it added to the write-ahead log, rather too many than too few."""
        return 5 + len(self.types) // 32 + sum(map(len, self.row.blobs)) // 2048 + self.pruned.rows


class State:
    """The queue's row, the totals and the memory of ids, as of the last commit.

    Loading raises ValueError where the rows are not what was written.
    """

    def __init__(self, connection: sqlite3.Connection, queue_name: str) -> None:
        instance_id, created_seconds = read_identity(connection)
        queue = read_queue(connection, queue_name) or begin_queue(connection, queue_name)
        types, type_checksums = read_types(connection, queue.id)
        reasons, reason_checksums = read_reasons(connection, queue.id)
        self.memory = Memory(queue.id)
        if queue.rows_checksum != type_checksums + reason_checksums + self.memory.load(connection):
            raise ValueError(queue.name)
        self.queue = queue
        self._last_seq = last_seq(connection)
        self.snapshot = Snapshot(
            queue_name=queue.name,
            queue_arn=queue.arn,
            created_seconds=created_seconds,
            series=MappingProxyType({(name,): totals for name, totals in types.items()}),
            received=queue.received,
            duplicate=queue.duplicate,
            rejected=MappingProxyType(reasons[REJECTED]),
            released=MappingProxyType(reasons[RELEASED]),
            timestamps_unreadable=queue.timestamps_unreadable,
            forgotten_early=queue.forgotten_early,
            messages=len(self.memory),
            unsettled_messages=self.memory.unsettled,
            oldest_message_seconds=self.memory.oldest_seconds,
            instance_id=instance_id,
            ledger=instance_id[:8],
            label_names=(),
            overflowed={},
            without_event_id=0,
            events_forgotten=0,
        )

    @property
    def next_seq(self) -> int:
        """The sequence number of the next commit."""
        return self._last_seq + 1

    def write(
        self, connection: sqlite3.Connection, batch: Batch, now: Moment, limits: Limits | None, max_series: int
    ) -> Written:
        """Write a batch, within a transaction. Nothing in memory changes before `take`, nothing goes without limits."""
        queue, before, memory = self.queue, self.snapshot, self.memory
        added = add(before.types, batch.outcomes, max_series - len(before.types), now.committed_at_seconds)
        types = {**{name: new_series(now.committed_at_seconds) for name in batch.begin}, **added.types}
        rejected = plus(before.rejected, added.rejected)
        released = plus(before.released, batch.released)
        checksums = write_types(connection, queue.id, before.types, types)
        checksums += write_reasons(connection, queue.id, REJECTED, before.rejected, rejected)
        checksums += write_reasons(connection, queue.id, RELEASED, before.released, released)

        pruned = memory.prune(connection, now, limits, batch.ids, batch.renewed) if limits else Pruned()
        row = Row(
            self.next_seq,
            queue.id,
            *now,
            b"".join(batch.settled),
            b"".join(batch.ids),
            b"".join(batch.renewed),
            pack_carried(pruned.carried),
        )
        checksums += memory.append(connection, row) - pruned.checksums

        changed = QueueRow(
            id=queue.id,
            name=queue.name,
            arn=batch.arn or queue.arn,
            seq=row.seq,
            clock_seconds=now.clock_seconds,
            paused_seconds=now.paused_seconds,
            received=queue.received + batch.received + sum(batch.released.values()),
            duplicate=queue.duplicate + batch.received - len(batch.outcomes),
            timestamps_unreadable=queue.timestamps_unreadable + added.timestamps_unreadable,
            forgotten_early=queue.forgotten_early + pruned.forgotten_early,
            rows_checksum=queue.rows_checksum + checksums,
        )
        write_queue(connection, changed)
        return Written(changed, row, batch.ids, pruned, types, rejected, released)

    def take(self, written: Written) -> None:
        """Take in what a commit that succeeded wrote, and publish it."""
        before, memory, queue = self.snapshot, self.memory, written.queue
        memory.forget(written.pruned)
        memory.remember(written.row, written.ids)
        self.queue = queue
        self._last_seq = queue.seq
        self.snapshot = Snapshot(
            queue_name=queue.name,
            queue_arn=queue.arn,
            created_seconds=before.created_seconds,
            series=MappingProxyType({**before.series, **{(name,): totals for name, totals in written.types.items()}}),
            received=queue.received,
            duplicate=queue.duplicate,
            rejected=MappingProxyType({**before.rejected, **written.rejected}),
            released=MappingProxyType({**before.released, **written.released}),
            timestamps_unreadable=queue.timestamps_unreadable,
            forgotten_early=queue.forgotten_early,
            messages=len(memory),
            unsettled_messages=memory.unsettled,
            oldest_message_seconds=memory.oldest_seconds,
            instance_id=before.instance_id,
            ledger=before.ledger,
            label_names=(),
            overflowed={},
            without_event_id=0,
            events_forgotten=0,
        )
