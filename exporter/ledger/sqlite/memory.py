"""Which messages are remembered: the index of ids, which of them are unsettled, and the rows they are rebuilt from.

Each commit of a queue appends one row: the ids settled since the commit before (`settled`), those that are new (`ids`),
those of messages that are delivered again, which are remembered anew (`renewed`), and the unsettled ones of rows that
it drops, with the clock of their own commit (`carried`). Rows are dropped from the oldest on, so that what settles an
id never goes before what remembers it. Read in order, they give exactly what is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from exporter.ledger import failpoint
from exporter.ledger.message_ids import ID_BYTES, split
from exporter.ledger.sqlite.rows import PRUNE_AT_LEAST, Limits, Moment, RowMemory, read_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.ledger.intake import IntakeLimit

_head = Struct(">2q3d4q")
_carried = Struct(f">{ID_BYTES}sd")


class Row(NamedTuple):
    """One commit of one queue: when, as in `Moment`, and what it did to the memory of ids."""

    seq: int
    queue_id: int
    clock_seconds: float
    paused_seconds: float
    committed_at_seconds: float
    settled: bytes
    ids: bytes
    renewed: bytes
    carried: bytes

    def checksum(self) -> int:
        """CRC-32 of the whole row."""
        _, _, _, _, _, settled, ids, renewed, carried = self
        head = _head.pack(*self[:5], len(settled), len(ids), len(renewed), len(carried))
        return crc32(carried, crc32(renewed, crc32(ids, crc32(settled, crc32(head)))))

    @property
    def age_seconds(self) -> float:
        """When, on the clock on which ids grow old enough to be dropped early."""
        return self.clock_seconds + self.paused_seconds

    @property
    def bytes_of_ids(self) -> int:
        """How long its ids are, all together."""
        return len(self.settled) + len(self.ids) + len(self.renewed) + len(self.carried)


@dataclass(slots=True)
class Pruned:
    """What is to be dropped in a commit, and what of it stays."""

    oldest: Row | None = None
    """The oldest row that is left; None: none was."""
    seqs: list[int] = field(default_factory=list)
    checksums: int = 0
    dropped: list[bytes] = field(default_factory=list)
    expired: list[bytes] = field(default_factory=list)
    """Those of the dropped that are unsettled, and no longer in the queue either."""
    carried: dict[bytes, float] = field(default_factory=dict)
    forgotten_early: int = 0


NOTHING_PRUNED = Pruned()


class Memory(RowMemory[Row]):
    """The ids in memory. Nothing here changes before a commit succeeded, except by `settle`."""

    def __init__(self, intake: IntakeLimit) -> None:
        super().__init__(intake, "commits", Row._make)
        self._unsettled: dict[bytes, float] = {}

    @property
    def unsettled(self) -> int:
        """How many are not yet known to be deleted."""
        return len(self._unsettled)

    @property
    def oldest_seconds(self) -> float | None:
        """When the oldest row was committed, Unix time; None while no id is remembered."""
        return self._oldest.committed_at_seconds if self._oldest and self._index else None

    def by_age(self, connection: sqlite3.Connection) -> Iterator[tuple[Row, list[tuple[bytes, bool]]]]:
        """Read the rows, oldest first, with the ids that each remembered last, and whether those are unsettled."""
        for row, _ in self._rows(connection):
            yield row, [(i, i in self._unsettled) for i in self._index.remembered_by(_remembered(row), row.seq)]

    def settle(self, ids: Iterable[bytes]) -> list[bytes]:
        """Mark ids as settled; returns those that were not."""
        pop = self._unsettled.pop
        return [i for i in ids if pop(i, None) is not None]

    def restore(self, row: Row) -> None:
        """Take in the next row while rebuilding. Raises struct.error where it does not hold ids."""
        for i in split(row.settled):
            self._unsettled.pop(i, None)
        self.remember(row, split(row.ids))

    def remember(self, row: Row, ids: Sequence[bytes]) -> None:
        """Take in a row that was committed; `ids` are those of `row.ids`."""
        if not row.bytes_of_ids:
            return
        self._index.add(ids, row.seq)
        self._unsettled.update(dict.fromkeys(ids, row.clock_seconds))
        if row.renewed:
            renewed = split(row.renewed)
            self._index.renew(renewed, row.seq)
            self._unsettled.update(dict.fromkeys(renewed, row.clock_seconds))
        if row.carried:
            carried = dict(_carried.iter_unpack(row.carried))
            self._index.renew(carried, row.seq)
            self._unsettled.update(carried)
        self._seqs.append(row.seq)
        self._oldest = self._oldest or row
        self._intake.take(row.age_seconds, (len(row.ids) + len(row.renewed)) // ID_BYTES)

    def prune(  # noqa: PLR0913, PLR0917 - what a commit knows
        self,
        connection: sqlite3.Connection,
        now: Moment,
        limits: Limits,
        ids: Collection[bytes],
        renewed: Collection[bytes],
        excess: int,
    ) -> Pruned:
        """Drop due rows, and further ones while there are `excess` ids too many; memory itself changes in `forget`.

        `ids` and `renewed` are those of this commit. What is looked at is bounded by what is added, so that the commit
        after a quiet time is not held up.
        """
        if not self.prunable(now, limits, excess):
            return NOTHING_PRUNED
        pruned = Pruned()
        budget = PRUNE_AT_LEAST + 2 * (len(ids) + len(renewed))
        for row, checksum in self._rows(connection):
            if budget <= 0 or not self._droppable(row, now, limits, excess):
                pruned.oldest = row
                break
            looked_at = _remembered(row)
            dropped_before = len(pruned.dropped)
            early = not self._due(row, now, limits)
            for i in self._index.remembered_by(looked_at, row.seq):
                if i in renewed:
                    continue
                since = self._unsettled.get(i)
                if since is None:
                    pruned.dropped.append(i)
                    pruned.forgotten_early += early
                elif now.clock_seconds - since >= limits.retention_seconds:
                    pruned.dropped.append(i)
                    pruned.expired.append(i)
                else:
                    pruned.carried[i] = since
            excess -= len(pruned.dropped) - dropped_before
            budget -= len(looked_at) + 1
            pruned.seqs.append(row.seq)
            pruned.checksums += checksum
        connection.executemany("DELETE FROM commits WHERE seq = ?", [(seq,) for seq in pruned.seqs])
        failpoint.reach("in_prune")
        return pruned

    def forget(self, pruned: Pruned) -> None:
        """Take in what a commit dropped."""
        if not pruned.seqs:
            return
        self._index.remove(pruned.dropped)
        for i in pruned.expired:
            del self._unsettled[i]
        self._seqs.drop(len(pruned.seqs))
        self._oldest = pruned.oldest

    def _due(self, row: Row, now: Moment, limits: Limits) -> bool:
        # A row without ids settles, once it is the oldest, only those of rows that are gone.
        has_ids = row.ids or row.renewed or row.carried
        return now.clock_seconds - row.clock_seconds >= limits.window_seconds or not has_ids


def append(connection: sqlite3.Connection, row: Row) -> int:
    """Write a row, unless it says nothing; returns its checksum, or 0."""
    if not row.bytes_of_ids:
        return 0
    checksum = row.checksum()
    connection.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, checksum))
    return checksum


def read_rows(connection: sqlite3.Connection) -> Iterator[tuple[Row, int]]:
    """Read the rows of all queues in the order of their commits, with their checksums."""
    return map(partial(read_row, Row._make), connection.execute("SELECT * FROM commits ORDER BY seq"))


def pack_carried(carried: Mapping[bytes, float]) -> bytes:
    """Ids with the clock of their own commit, as a row holds them."""
    return b"".join(_carried.pack(i, since) for i, since in carried.items())


def _remembered(row: Row) -> tuple[bytes, ...]:
    return split(row.ids + row.renewed) + tuple(i for i, _ in _carried.iter_unpack(row.carried))
