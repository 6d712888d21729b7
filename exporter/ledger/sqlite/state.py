"""One queue as it is on disk, mirrored in memory: loaded once, then updated by each commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.ledger import OVERFLOW_LIMITS, SeriesTotals, Snapshot, together
from exporter.ledger.series import Admission, Caps, Key
from exporter.ledger.sqlite import event_memory, memory
from exporter.ledger.sqlite.event_memory import EventMemory, EventRow, Pair, PrunedEvents, pack_links, pack_pairs
from exporter.ledger.sqlite.memory import Memory, Pruned, Row, pack_carried
from exporter.ledger.sqlite.queue_row import Identity, QueueRow, write_queue
from exporter.ledger.sqlite.total_rows import KINDS, OVERFLOWED, REJECTED, RELEASED, Stored, TotalRows
from exporter.ledger.totals import Added, add, new_series, plus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from exporter.events.event import Event
    from exporter.ledger.intake import IntakeLimit
    from exporter.ledger.sqlite.rows import Limits, Moment


@dataclass(slots=True)
class Change:
    """What one commit is to write for one queue."""

    received: int = 0
    """Deliveries beside the released ones."""
    outcomes: Sequence[Event | str] = ()
    """Of those that are new."""
    ids: Sequence[bytes] = ()
    """Of the messages that are new, whether what they hold is or not."""
    renewed: Collection[bytes] = frozenset()
    """Of the messages of earlier commits."""
    links: Mapping[bytes, bytes] = field(default_factory=dict)
    """Which messages hold which events, where an event is counted by its own id."""
    without_event_id: int = 0
    released: Mapping[str, int] = field(default_factory=dict)
    settled: Sequence[bytes] = ()
    settled_links: Sequence[Pair] = ()
    begin: Collection[Key] = ()
    """Series to show at 0."""
    arn: str | None = None


class Written(NamedTuple):
    """What a commit changes in memory once it succeeded."""

    queue: QueueRow
    row: Row
    ids: Sequence[bytes]
    pruned: Pruned
    event_row: EventRow | None
    pruned_events: PrunedEvents
    added: Added
    counts: Mapping[str, Mapping[str, int]]
    own: Mapping[Key, SeriesTotals]
    """What the own row of each changed series comes to: without those that are summed up with it."""

    @property
    def pages(self) -> int:
        """About how many pages it added to the write-ahead log, rather too many than too few."""
        bytes_of_ids = self.row.bytes_of_ids + (self.event_row.bytes_of_ids if self.event_row else 0)
        rows = len(self.pruned.seqs) + len(self.pruned_events.seqs)
        return 5 + len(self.own) // 32 + bytes_of_ids // 2048 + rows


class State:
    """The queue's row, the totals and the two memories of ids, as of the last commit. Raises ValueError in `finish`."""

    def __init__(self, queue: QueueRow, identity: Identity, caps: Caps, intake: IntakeLimit) -> None:
        self.queue = queue
        self.memory = Memory(intake)
        self.events = EventMemory(intake)
        self._identity = identity
        self._caps = caps
        self._rows = TotalRows(queue.id)
        self._rows_checksum = 0
        self._series: dict[Key, SeriesTotals] = {}
        self._exact: dict[Key, SeriesTotals] = {}
        """What the own row of a series holds, where rows with labels that were removed are summed up in it, too."""
        self._stored: dict[Key, Stored] = {}
        self._parts: dict[Key, list[tuple[Stored, SeriesTotals]]] = {}
        self._counts: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._counts[OVERFLOWED] = dict.fromkeys(OVERFLOW_LIMITS, 0)
        self._admission = Admission(caps)
        self.snapshot = self._snapshot()

    @property
    def ids(self) -> int:
        """How many ids are remembered: messages' and events'."""
        return len(self.memory) + len(self.events)

    @property
    def unsettled_ids(self) -> int:
        """How many of them belong to messages that are not yet known to be deleted."""
        return self.memory.unsettled + self.events.unsettled

    def read_series(self, columns: tuple[object, ...]) -> None:
        """Take in a row of totals."""
        stored, totals = self._rows.read_series(columns)
        self._parts.setdefault(self._caps.key(*stored), []).append((stored, totals))

    def read_reason(self, columns: tuple[object, ...]) -> None:
        """Take in a row of counts by reason."""
        kind, reason, count = self._rows.read_reason(columns)
        self._counts[kind][reason] = count

    def read_commit(self, row: Row | EventRow, checksum: int) -> None:
        """Take in a row of message or event ids."""
        self._rows_checksum += checksum
        if isinstance(row, Row):
            self.memory.restore(row)
        else:
            self.events.restore(row)

    def finish(self) -> None:
        """All rows were read. Raises ValueError where they are not those that were written."""
        if self.queue.rows_checksum != self._rows.checksums() + self._rows_checksum:
            raise ValueError(self.queue.name)
        for key, parts in self._parts.items():
            self._series[key] = together([totals for _, totals in parts])
            stored = self._caps.stored_labels(key)
            exact = [totals for (_, labels), totals in parts if labels == stored]
            if len(exact) != len(parts):
                self._exact[key] = exact[0] if exact else new_series(self._series[key].created_seconds)
        self._parts = {}
        self._admission = Admission(self._caps, self._series)
        self.snapshot = self._snapshot()

    def write(
        self, connection: sqlite3.Connection, change: Change, seq: int, now: Moment, limits: Limits | None
    ) -> Written:
        """Write a change, within a transaction. Memory changes in `take`; without limits nothing is forgotten."""
        queue, counts = self.queue, self._counts
        added = add(self._series, change.outcomes, self._admission, now.committed_at_seconds)
        for key in change.begin:
            added.series.setdefault(key, new_series(now.committed_at_seconds))
        changes = ((REJECTED, added.rejected), (RELEASED, change.released), (OVERFLOWED, added.overflowed))
        changed_counts = {kind: plus(counts[kind], on_top) for kind, on_top in changes if on_top}
        self._rows.begin()
        own = self._own(added.series) if self._exact else added.series
        self._rows.write_series(connection, {self._stored_as(key): totals for key, totals in own.items()})
        for kind, changed in changed_counts.items():
            self._rows.write_reasons(connection, kind, changed)

        pruned, pruned_events = self._prune(connection, change, now, limits)
        row = Row(
            seq,
            queue.id,
            *now,
            b"".join(change.settled),
            b"".join(change.ids),
            b"".join(change.renewed),
            pack_carried(pruned.carried),
        )
        checksums = memory.append(connection, row)
        event_row = None
        if change.links or change.settled_links or pruned_events.carried:
            event_row = EventRow(
                seq,
                queue.id,
                *now,
                pack_pairs(change.settled_links),
                pack_pairs(change.links.items()),
                pack_links(pruned_events.carried),
            )
            checksums += event_memory.append(connection, event_row)
        after = QueueRow(
            id=queue.id,
            name=queue.name,
            arn=change.arn or queue.arn,
            seq=seq,
            clock_seconds=now.clock_seconds,
            paused_seconds=now.paused_seconds,
            received=queue.received + change.received + sum(change.released.values()),
            duplicate=queue.duplicate + change.received - len(change.outcomes),
            timestamps_unreadable=queue.timestamps_unreadable + added.timestamps_unreadable,
            forgotten_early=queue.forgotten_early + pruned.forgotten_early + pruned_events.forgotten_early,
            without_event_id=queue.without_event_id + change.without_event_id,
            events_forgotten=queue.events_forgotten,
            rows_checksum=queue.rows_checksum
            + checksums
            + self._rows.change
            - pruned.checksums
            - pruned_events.checksums,
        )
        write_queue(connection, after)
        return Written(after, row, change.ids, pruned, event_row, pruned_events, added, changed_counts, own)

    def take(self, written: Written) -> None:
        """Take in what a commit that succeeded wrote, and publish it."""
        self._rows.end()
        self.memory.forget(written.pruned)
        self.memory.remember(written.row, written.ids)
        self.events.forget(written.pruned_events)
        if written.event_row is not None:
            self.events.remember(written.event_row)
        for key in self._exact.keys() & written.own.keys():
            self._exact[key] = written.own[key]
        self._series = {**self._series, **written.added.series}
        for kind, changed in written.counts.items():
            self._counts[kind] = {**self._counts[kind], **changed}
        self._admission = written.added.admission
        self.queue = written.queue
        self.snapshot = self._snapshot()

    def rebind(self, connection: sqlite3.Connection, arn: str) -> None:
        """Write that the rows belong to the queue of another ARN."""
        self.queue = self.queue._replace(arn=arn)
        write_queue(connection, self.queue)
        self.snapshot = self._snapshot()

    def forget_type(self, connection: sqlite3.Connection, name: str) -> int:
        """Delete all series of a type, within a transaction; returns how many events they had counted."""
        self._rows.begin()
        forgotten = 0
        for stored, count in self._rows.series_of(connection, name):
            self._rows.drop_series(connection, stored)
            forgotten += count
        queue = self.queue
        self.queue = queue._replace(
            events_forgotten=queue.events_forgotten + forgotten, rows_checksum=queue.rows_checksum + self._rows.change
        )
        write_queue(connection, self.queue)
        self._rows.end()
        self._series = {key: totals for key, totals in self._series.items() if key[0] != name}
        self.snapshot = self._snapshot()
        return forgotten

    def _own(self, series: Mapping[Key, SeriesTotals]) -> dict[Key, SeriesTotals]:
        """Return what the own rows of these series come to, some of which have others summed up in them."""
        return {
            key: after if (own := self._exact.get(key)) is None else _moved_on(own, self._series[key], after)
            for key, after in series.items()
        }

    def _stored_as(self, key: Key) -> Stored:
        stored = self._stored.get(key)
        if stored is None:
            stored = self._stored[key] = (key[0], self._caps.stored_labels(key))
        return stored

    def _prune(
        self, connection: sqlite3.Connection, change: Change, now: Moment, limits: Limits | None
    ) -> tuple[Pruned, PrunedEvents]:
        if limits is None:
            return memory.NOTHING_PRUNED, event_memory.NOTHING_PRUNED
        excess = self.ids + len(change.ids) + len(change.links) - limits.comfortable_ids
        # As many of the one kind as of the other grow old at once: each gives way by its share.
        of_events = excess * len(self.events) // max(1, self.ids)
        pruned = self.memory.prune(connection, now, limits, change.ids, change.renewed, excess - of_events)
        links, settled = change.links, change.settled_links
        return pruned, self.events.prune(connection, now, limits, settled, links, of_events)

    def prunable(self, now: Moment, limits: Limits) -> bool:
        """Whether ids are due, or may be dropped early."""
        excess = self.ids - limits.comfortable_ids
        return self.memory.prunable(now, limits, excess) or self.events.prunable(now, limits, excess)

    def _snapshot(self) -> Snapshot:
        queue = self.queue
        return Snapshot(
            ledger=self._identity.name,
            queue_name=queue.name,
            queue_arn=queue.arn,
            created_seconds=self._identity.created_seconds,
            instance_id=self._identity.instance_id,
            label_names=self._caps.label_names,
            series=MappingProxyType(self._series),
            received=queue.received,
            duplicate=queue.duplicate,
            rejected=MappingProxyType(self._counts[REJECTED]),
            released=MappingProxyType(self._counts[RELEASED]),
            timestamps_unreadable=queue.timestamps_unreadable,
            forgotten_early=queue.forgotten_early,
            overflowed=MappingProxyType(self._counts[OVERFLOWED]),
            without_event_id=queue.without_event_id,
            events_forgotten=queue.events_forgotten,
            messages=self.ids,
            unsettled_messages=self.memory.unsettled,
            oldest_message_seconds=self.memory.oldest_seconds,
        )


def _moved_on(own: SeriesTotals, before: SeriesTotals, after: SeriesTotals) -> SeriesTotals:
    """Add to one what another, of which it is a part, gained."""
    moved = after.last_occurred_seconds != before.last_occurred_seconds
    return SeriesTotals(
        own.count + after.count - before.count,
        own.value_nano + after.value_nano - before.value_nano,
        own.negative_nano + after.negative_nano - before.negative_nano,
        after.last_occurred_seconds if moved else own.last_occurred_seconds,
        own.created_seconds,
    )
