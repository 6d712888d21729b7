"""Which events are remembered by their own id, and which unsettled messages were seen to hold each.

An event's id lives until every message seen under it is settled, and the id window longer. Each commit that has to do
with them appends one row: the pairs (message, event) of messages that were settled since the commit before (`settled`),
those of its deliveries (`links`), and the unsettled ones of rows that it drops, with the clock of their own commit
(`carried`). Each of the three remembers its events anew. Rows are dropped from the oldest on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from exporter.ledger.message_ids import ID_BYTES
from exporter.ledger.sqlite.rows import PRUNE_AT_LEAST, Limits, Moment, RowMemory, read_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.ledger.intake import IntakeLimit

Pair = tuple[bytes, bytes]
"""A message's id, and the id of the event that it holds."""

_head = Struct(">2q3d3q")
_pair = Struct(f">{ID_BYTES}s{ID_BYTES}s")
_carried = Struct(f">{ID_BYTES}s{ID_BYTES}sd")


class EventRow(NamedTuple):
    """One commit of one queue: when, as in `Moment`, and what it did to the memory of events."""

    seq: int
    queue_id: int
    clock_seconds: float
    paused_seconds: float
    committed_at_seconds: float
    settled: bytes
    links: bytes
    carried: bytes

    def checksum(self) -> int:
        """CRC-32 of the whole row."""
        _, _, _, _, _, settled, links, carried = self
        head = _head.pack(*self[:5], len(settled), len(links), len(carried))
        return crc32(carried, crc32(links, crc32(settled, crc32(head))))

    @property
    def age_seconds(self) -> float:
        """When, on the clock on which ids grow old enough to be dropped early."""
        return self.clock_seconds + self.paused_seconds

    @property
    def bytes_of_ids(self) -> int:
        """How long its ids are, all together."""
        return len(self.settled) + len(self.links) + len(self.carried)


class _Link(NamedTuple):
    """What an unsettled message holds, since when, and the commit whose row says so last."""

    event_id: bytes
    since: float
    seq: int


@dataclass(slots=True)
class PrunedEvents:
    """What is to be dropped in a commit, and what of it stays."""

    oldest: EventRow | None = None
    """The oldest row that is left; None: none was."""
    seqs: list[int] = field(default_factory=list)
    checksums: int = 0
    dropped: set[bytes] = field(default_factory=set)
    expired: list[bytes] = field(default_factory=list)
    """Messages that are unsettled, and no longer in the queue either."""
    carried: dict[bytes, _Link] = field(default_factory=dict)
    forgotten_early: int = 0


NOTHING_PRUNED = PrunedEvents()


class EventMemory(RowMemory[EventRow]):
    """The ids of events in memory. Nothing here changes before a commit succeeded, except by `settle`."""

    def __init__(self, intake: IntakeLimit) -> None:
        super().__init__(intake, "event_ids", EventRow._make)
        self._links: dict[bytes, _Link] = {}

    @property
    def unsettled(self) -> int:
        """How many unsettled messages hold an event that is remembered: no fewer than events that have to stay."""
        return len(self._links)

    def links(self) -> Iterator[Pair]:
        """Yield the unsettled messages that hold an event which is remembered, each with the event's id."""
        return ((message_id, link.event_id) for message_id, link in self._links.items())

    def by_age(self, connection: sqlite3.Connection) -> Iterator[tuple[EventRow, list[bytes]]]:
        """Read the rows, oldest first, with the ids of events that each remembered last."""
        for row, _ in self._rows(connection):
            named = {event_id for _, event_id in (*_linked(row), *_pair.iter_unpack(row.settled))}
            yield row, self._index.remembered_by(named, row.seq)

    def settled_pairs(self, connection: sqlite3.Connection) -> Iterator[Pair]:
        """Read which settled messages held which event, as far as the rows say so."""
        for row, _ in self._rows(connection):
            yield from _pair.iter_unpack(row.settled)

    def settle(self, message_ids: Iterable[bytes]) -> list[Pair]:
        """Mark messages as settled; returns those that hold an event, with its id."""
        if not self._links:
            return []
        pop = self._links.pop
        return [(i, link.event_id) for i in message_ids if (link := pop(i, None)) is not None]

    def restore(self, row: EventRow) -> None:
        """Take in the next row while rebuilding. Raises struct.error where it does not hold ids."""
        for message_id, _ in _pair.iter_unpack(row.settled):
            self._links.pop(message_id, None)
        self.remember(row)

    def remember(self, row: EventRow) -> None:
        """Take in a row that was committed."""
        self._index.renew([event_id for _, event_id in _pair.iter_unpack(row.settled + row.links)], row.seq)
        self._links.update(
            (message_id, _Link(event_id, row.clock_seconds, row.seq))
            for message_id, event_id in _pair.iter_unpack(row.links)
        )
        for message_id, event_id, since in _carried.iter_unpack(row.carried):
            self._index.renew((event_id,), row.seq)
            self._links[message_id] = _Link(event_id, since, row.seq)
        self._seqs.append(row.seq)
        self._oldest = self._oldest or row
        self._intake.take(row.age_seconds, len(row.links) // _pair.size)

    def prune(  # noqa: PLR0913, PLR0917 - what a commit knows
        self,
        connection: sqlite3.Connection,
        now: Moment,
        limits: Limits,
        settled: Sequence[Pair],
        links: Mapping[bytes, bytes],
        excess: int,
    ) -> PrunedEvents:
        """Drop due rows, and further ones while there are `excess` ids too many; memory itself changes in `forget`.

        `settled` and `links` are those of this commit.
        """
        if not self.prunable(now, limits, excess):
            return NOTHING_PRUNED
        pruned = PrunedEvents()
        renewed = {event_id for _, event_id in settled}.union(links.values())
        budget = PRUNE_AT_LEAST + 4 * (len(settled) + len(links))
        for row, checksum in self._rows(connection):
            if budget <= 0 or not self._droppable(row, now, limits, excess):
                pruned.oldest = row
                break
            linked = _linked(row)
            kept = set()
            for message_id, event_id in linked:
                link = self._links.get(message_id)
                if link is None or link.seq != row.seq or link.event_id != event_id or message_id in links:
                    continue
                if now.clock_seconds - link.since >= limits.retention_seconds:
                    pruned.expired.append(message_id)
                else:
                    pruned.carried[message_id] = link
                    kept.add(event_id)
            named = {event_id for _, event_id in chain(linked, _pair.iter_unpack(row.settled))}
            dropped = set(self._index.remembered_by(named, row.seq)) - kept - renewed
            pruned.dropped |= dropped
            pruned.forgotten_early += 0 if self._due(row, now, limits) else len(dropped)
            excess -= len(dropped)
            budget -= len(linked) + len(named) + 1
            pruned.seqs.append(row.seq)
            pruned.checksums += checksum
        connection.executemany("DELETE FROM event_ids WHERE seq = ?", [(seq,) for seq in pruned.seqs])
        return pruned

    def forget(self, pruned: PrunedEvents) -> None:
        """Take in what a commit dropped."""
        if not pruned.seqs:
            return
        self._index.remove(pruned.dropped)
        for message_id in pruned.expired:
            self._links.pop(message_id, None)
        self._seqs.drop(len(pruned.seqs))
        self._oldest = pruned.oldest

    def _due(self, row: EventRow, now: Moment, limits: Limits) -> bool:
        return now.clock_seconds - row.clock_seconds >= limits.id_window_seconds


def append(connection: sqlite3.Connection, row: EventRow) -> int:
    """Write a row; returns its checksum."""
    checksum = row.checksum()
    connection.execute("INSERT INTO event_ids VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, checksum))
    return checksum


def read_rows(connection: sqlite3.Connection) -> Iterator[tuple[EventRow, int]]:
    """Read the rows of all queues in the order of their commits, with their checksums."""
    return map(partial(read_row, EventRow._make), connection.execute("SELECT * FROM event_ids ORDER BY seq"))


def pack_pairs(pairs: Iterable[Pair]) -> bytes:
    """Pairs as a row holds them."""
    return b"".join(chain.from_iterable(pairs))


def pack_links(carried: Mapping[bytes, _Link]) -> bytes:
    """Unsettled links with the clock of their own commit, as a row holds them."""
    return b"".join(_carried.pack(i, link.event_id, link.since) for i, link in carried.items())


def _linked(row: EventRow) -> list[Pair]:
    return [*_pair.iter_unpack(row.links), *((i, e) for i, e, _ in _carried.iter_unpack(row.carried))]
