"""One replica as the database knows it: how it registers, what it asks, and what it has read, as flows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger.postgres import statements
from exporter.ledger.postgres.admission import load
from exporter.ledger.postgres.flow import query, retried, script, single, text
from exporter.ledger.postgres.schema import VERSION, Selected, prepare, select_ledger
from exporter.ledger.postgres.snapshots import known, snapshots
from exporter.ledger.postgres.speaker import LEASE_SECONDS, RENEWAL_SECONDS, Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.ledger import Snapshot
    from exporter.ledger.postgres.batches import Chunk
    from exporter.ledger.postgres.flow import Flow
    from exporter.ledger.postgres.queue import Queue
    from exporter.ledger.series import Caps

READ_SECONDS = 0.25
"""How soon after a commit the speaker shows it, at the earliest since the last reading."""
_READ_SHARE = 10
"""Reading takes at most so small a part of the time."""
_OTHERS_SECONDS = 0.1
"""How long after a beat the next one begins at the earliest, so that commits have their turn where beats are slow."""
FOLD_SECONDS = 10.0
_MARKS_A_WINDOW = 60


@dataclass(slots=True)
class ReplicaRow:
    """The row of a replica, which fences its statements."""

    id: int
    epoch: int = 0
    seq: int = 0
    """Of its last commit."""


class Replica:
    """What a process knows of the ledger and of itself; the methods that are flows change it."""

    def __init__(self, name: str, caps: Caps, window_seconds: float, lease: Lease) -> None:
        self.wanted_name = name
        self.caps = caps
        self.lease = lease
        self.queues: dict[str, Queue] = {}
        self.unknown: list[Chunk] = []
        """Of commits whose end was not seen."""
        self.selected: Selected | None = None
        self.to_prune: dict[str, None] = {}
        """The queues that may have ids to forget."""
        self.beat_at = float("-inf")
        """When to renew the lease, or try for it."""
        self.read_at: float | None = None
        """When the snapshots are to be read again; None: nothing was committed since."""

        self._window_seconds = window_seconds
        self._row: ReplicaRow | None = None
        self._snapshots: Mapping[str, Snapshot] = MappingProxyType({})
        self._shown_term: int | None = None
        self._fold_at = float("-inf")
        self._read_done_at = float("-inf")
        self._read_interval_seconds = READ_SECONDS

    @property
    def speaker(self) -> bool:
        """Whether it holds the lease, and has read the snapshots since it does."""
        return self._shown_term is not None and self._shown_term == self.lease.term and self.lease.held

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """What all replicas committed; empty where another one shows it."""
        return self._snapshots if self.speaker else MappingProxyType({})

    @property
    def row(self) -> ReplicaRow:
        """Its row in the database."""
        if self._row is None:
            raise LedgerError("unavailable", "this replica is not registered in PostgreSQL")
        return self._row

    @property
    def ledger(self) -> Selected:
        """The ledger that it belongs to."""
        if self.selected is None:
            raise LedgerError("unavailable", "the ledger in PostgreSQL is not open")
        return self.selected

    def open(self) -> Flow[None]:
        """Do what a new connection begins with: find the ledger, register or ask what became of the last commits."""
        yield from prepare()
        if self.selected is None:
            self.selected = yield from select_ledger(self.wanted_name)
        if self._row is not None:
            yield from self._ask(self._row)
        if self._row is None:
            rows = yield from retried(query(statements.REGISTER, self.selected.id, VERSION))
            if not rows:
                raise LedgerError("newer_schema", "the ledger in PostgreSQL was just migrated by a newer program")
            self._row = ReplicaRow(int(text(rows[0][0])))
        yield from self.beat()

    def _ask(self, row: ReplicaRow) -> Flow[None]:
        """Find out what became of the commits whose end was not seen; a replica that was folded registers anew."""
        rows = yield from retried(query(statements.ASK, row.id))
        unknown, self.unknown = self.unknown, []
        folded = True
        if rows:
            seq, epoch, was_folded, _ = rows[0]
            row.seq, row.epoch, folded = int(text(seq)), int(text(epoch)), was_folded == b"t"
            for chunk in unknown:
                if chunk.seq > row.seq:
                    chunk.take_back(self.queues)
        if folded:
            self._row = None
            for queue in self.queues.values():
                queue.unregister()

    def beat(self) -> Flow[None]:
        """Renew the lease or try for it, and read what all replicas committed."""
        self.beat_at = time.monotonic() + RENEWAL_SECONDS
        self.lease.asked()
        rows = yield from retried(
            query(statements.BEAT, self.row.id, self.row.epoch, self.ledger.id, LEASE_SECONDS),
        )
        if not rows:
            raise fenced()
        term, at_seconds = single(rows)
        self.lease.answered(None if term is None else int(term), float(text(at_seconds)))
        yield from self.read()
        self.to_prune.update({name: None for name, queue in self.queues.items() if queue.id is not None})
        if self.lease.held:
            yield from self._mark()
            if time.monotonic() >= self._fold_at:
                self._fold_at = time.monotonic() + FOLD_SECONDS
                for row in (yield from retried(query(statements.FIND_GONE, self.ledger.id))):
                    yield from retried(script(*statements.fold(int(text(row[0])))))
        self.beat_at = max(self.beat_at, time.monotonic() + _OTHERS_SECONDS)

    def read(self) -> Flow[None]:
        """Read the snapshots, or where another replica speaks only what limits receives."""
        term, started_at = self.lease.term, time.monotonic()
        self.read_at = None
        rows = yield from retried(query(statements.READ if self.lease.held else statements.LOOK, self.ledger.id))
        if self.lease.held and term == self.lease.term:
            self._snapshots = snapshots(rows, self.ledger, self.caps)
            self._shown_term = term
        by_id = known(rows)
        for queue in self.queues.values():
            if queue.id in by_id:
                queue.known = by_id[queue.id]
                queue.added_ids = 0
        self._read_done_at = time.monotonic()
        self._read_interval_seconds = max(READ_SECONDS, _READ_SHARE * (self._read_done_at - started_at))

    def read_soon(self) -> None:
        """Have the snapshots read again, as soon as that may be."""
        self.read_at = self._read_done_at + self._read_interval_seconds

    def _mark(self) -> Flow[None]:
        """Note when each queue's clock showed what, for the age of the oldest id."""
        for queue in self.queues.values():
            since = queue.known.newest_mark_seconds
            if queue.id is not None and (
                since is None or queue.known.clock_seconds - since >= self._window_seconds / _MARKS_A_WINDOW
            ):
                yield from retried(query(statements.MARK, queue.id, queue.known.clock_seconds))
                yield from retried(query(statements.DROP_MARKS, queue.id, queue.known.clock_seconds))

    def bind(self, queue: Queue) -> Flow[None]:
        """Take a queue up, or note its attributes; another queue under its name is its `error`."""
        identity = queue.identity
        rows = yield from retried(
            query(
                statements.BIND,
                self.ledger.id,
                identity.name,
                identity.arn,
                identity.visibility_timeout_seconds,
                identity.retention_seconds,
            )
        )
        queue.error = None
        queue_id = None
        if rows:
            queue_id = int(text(rows[0][0]))
            yield from retried(query(statements.START_CLOCK, self.row.id, queue_id))
            queue.series = yield from load(queue_id, self.caps)
            queue.places = {}
            yield from self.read()
            self.beat_at = time.monotonic()
        else:
            queue.error = LedgerError(
                "other_queue",
                f"the ledger {self.ledger.name} holds the counts of another queue called {identity.name}, not those of"
                f" {identity.arn}: use another --ledger.name",
            )
        queue.asked, queue.id = queue.identity != identity, queue_id

    def leave(self) -> Flow[None]:
        """Give back the lease, and be taken for gone."""
        yield from retried(query(statements.LEAVE, self.row.id, self.row.epoch, self.ledger.id))


def fenced() -> LedgerError:
    """Return the error of a statement that its replica's row fenced out."""
    return LedgerError("unavailable", "this replica was silent for so long that it was taken for gone: it begins anew")
