"""The ledger of one replica: what it does next, and what it knows of what became of it."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.backoff import Backoff
from exporter.errors import LedgerError
from exporter.ledger import Completed, QueueBatch, failpoint
from exporter.ledger.postgres import statements
from exporter.ledger.postgres.admission import admit, load
from exporter.ledger.postgres.batches import MAX_IDS, Chunk, chunks
from exporter.ledger.postgres.connection import PostgresError
from exporter.ledger.postgres.encoding import number_list
from exporter.ledger.postgres.flow import query, retried, script, single, text
from exporter.ledger.postgres.problems import ledger_error
from exporter.ledger.postgres.queue import Queue
from exporter.ledger.postgres.schema import VERSION, Selected, prepare, select_ledger
from exporter.ledger.postgres.session import Session
from exporter.ledger.postgres.snapshots import known, snapshots
from exporter.ledger.postgres.speaker import LEASE_SECONDS, RENEWAL_SECONDS, Lease, boottime
from exporter.ledger.postgres.target import Target
from exporter.ledger.series import Caps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.ledger import Batch, QueueIdentity, Snapshot
    from exporter.ledger.postgres.flow import Flow

READ_SECONDS = 0.25
"""How soon after a commit the speaker shows it, at the earliest since the last reading."""
_READ_SHARE = 10
"""Reading takes at most so small a part of the time."""
FOLD_SECONDS = 10.0
CLOSE_SECONDS = 1.0
_MARKS_A_WINDOW = 60
_PRUNED_AT_ONCE = MAX_IDS // 2


@dataclass(slots=True)
class _Replica:
    """This process as the database knows it."""

    id: int
    epoch: int = 0
    seq: int = 0
    """Of its last commit."""


@dataclass(slots=True)
class _Commit:
    """The commit under way."""

    batch: Batch
    started_at: float
    begun: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    """Those not known to be committed."""
    fresh: dict[str, list[bool]] = field(default_factory=dict)


class PostgresLedger:
    """`exporter.ledger.Ledger` in PostgreSQL, for one replica of several. Connects by itself, when it is polled.

    `types` are shown at 0 from the start and don't use up `max_types`. Message ids are remembered for `window_seconds`
    (at least twice the visibility timeout), event ids for `id_window_seconds`, about `max_ids` of them a queue at most.
    """

    def __init__(  # noqa: PLR0913 - plain values, by name
        self,
        url: str,
        *,
        name: str = "",
        types: Sequence[str] = (),
        label_names: Sequence[str] = (),
        max_types: int = 200,
        max_series: int = 1000,
        window_seconds: float = 3600,
        id_window_seconds: float | None = None,
        max_ids: int = 2_000_000,
        monotonic: Callable[[], float] = time.monotonic,
        boottime_clock: Callable[[], float] = boottime,
    ) -> None:
        self.target = Target(url)
        self._wanted_name = name
        self._caps = Caps(max_types, max_series, frozenset(types), tuple(label_names))
        self._window_seconds = window_seconds
        self._id_window_seconds = window_seconds if id_window_seconds is None else id_window_seconds
        self._max_ids = max_ids
        self._monotonic = monotonic

        self._queues: dict[str, Queue] = {}
        self._selected: Selected | None = None
        self._replica: _Replica | None = None
        self._unknown: list[Chunk] = []
        """Of commits whose end was not seen."""
        self._commit: _Commit | None = None
        self._completed: Completed | None = None

        self._session: Session | None = None
        self._problem: LedgerError | None = LedgerError("unavailable", f"connecting to PostgreSQL at {self.target}")
        self._backoff = Backoff()
        self._closed = False

        self._lease = Lease(boottime_clock)
        self._snapshots: Mapping[str, Snapshot] = MappingProxyType({})
        self._shown_term: int | None = None
        self._beat_at = self._fold_at = float("-inf")
        self._read_at: float | None = None
        """When the snapshots are to be read again; None: nothing was committed since."""
        self._read_done_at = float("-inf")
        self._read_interval_seconds = READ_SECONDS
        self._to_prune: dict[str, None] = {}
        self._pruned_last = False

    @property
    def name(self) -> str:
        """The ledger's own name; empty until it was opened once."""
        return self._selected.name if self._selected else self._wanted_name

    @property
    def speaker(self) -> bool:
        """Whether this replica is the one that shows what the ledger keeps, now. Any thread may ask."""
        return self._shown_term is not None and self._shown_term == self._lease.term and self._lease.held

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """What was committed by all replicas, by queue; empty where another replica shows it."""
        return self._snapshots if self.speaker else MappingProxyType({})

    @property
    def problem(self) -> LedgerError | None:
        """Why nothing can be committed now."""
        return self._problem

    @property
    def commit_started_at(self) -> float | None:
        """When the commit under way was submitted."""
        return self._commit.started_at if self._commit else None

    def bind(self, queue: QueueIdentity) -> None:
        """Ask that the queue be taken up, or that its attributes be noted."""
        known_queue = self._queues.get(queue.name)
        if known_queue is None:
            self._queues[queue.name] = Queue(queue)
        elif known_queue.identity != queue:
            known_queue.identity = queue
            known_queue.asked = True

    def bound(self, queue: str) -> bool:
        """Whether deliveries of this queue may be submitted; raises LedgerError("other_queue")."""
        known_queue = self._queues.get(queue)
        if known_queue is None:
            return False
        if known_queue.error is not None:
            raise known_queue.error
        return known_queue.id is not None

    def capacity(self, queue: str) -> int:
        """Return how many more messages of this queue may be taken: this replica's share of what is free."""
        known_queue = self._queues.get(queue)
        if known_queue is None or known_queue.id is None:
            return 0
        free = self._max_ids - known_queue.known.ids - known_queue.added_ids
        ids_a_message = 2 if known_queue.identity.event_ids else 1
        return max(0, free) // (max(1, known_queue.known.replicas) * ids_a_message)

    def limited(self, queue: str) -> str | None:
        """Return why this queue's receives are slowed down."""
        known_queue = self._queues.get(queue)
        if known_queue is None or known_queue.id is None or self.capacity(queue) >= min(100, self._max_ids // 10):
            return None
        return (
            f"the ledger remembers {known_queue.known.ids + known_queue.added_ids} ids of queue {queue}, of at most"
            f" {self._max_ids}, and none of them may be forgotten yet: raise --ledger.max-ids"
        )

    def advance(self, queue: str, seconds: float) -> None:
        """Let the queue's clock run."""
        if queue in self._queues:
            self._queues[queue].receiving_seconds += seconds

    def settle(self, queue: str, message_ids: Iterable[bytes]) -> None:
        """Mark messages as gone from the queue. Written with a later commit."""
        if queue in self._queues:
            self._queues[queue].settled.update(dict.fromkeys(message_ids))

    def submit(self, batch: Batch) -> None:
        """Begin a commit, at once if nothing else is under way."""
        now = self._monotonic()
        if self._problem is not None:
            self._release(batch, "ledger_unavailable")
            self._completed = Completed(None, self._problem, 0.0)
            return
        self._commit = _Commit(batch, now)
        self._move(now)

    def completed(self) -> Completed | None:
        """Go on with whatever is under way, and return the end of the commit if it has come."""
        self._move(self._monotonic())
        completed, self._completed = self._completed, None
        return completed

    def reopen(self) -> None:
        """Begin to connect at once, where that is not under way."""
        if self._session is None and not self._closed:
            self._connect()

    def descriptor(self) -> tuple[int, int] | None:
        """Return what to wait for."""
        return self._session.descriptor() if self._session else None

    def deadline(self) -> float | None:
        """Return when `completed` has something to do even if the descriptor is silent."""
        if self._closed:
            return None
        if self._completed is not None:
            return self._monotonic()
        if self._session is None:
            return max(self._backoff.due_at, self._monotonic() + (0.1 if self.target.unresolved else 0.0))
        if self._session.busy:
            return self._session.deadline()
        return min(self._beat_at, self._beat_at if self._read_at is None else self._read_at)

    def close(self) -> None:
        """Write what waits if that is possible at once, give the lease back, close."""
        if self._closed:
            return
        if self._problem is None and self._session is not None:
            give_up_at = self._monotonic() + CLOSE_SECONDS
            if self._commit is None:
                self._commit = _Commit({}, self._monotonic())
            self._drive(give_up_at)
            if self._session is not None and not self._session.busy:
                self._begin(self._leave())
                self._drive(give_up_at)
        self._lease.give_up()
        self._closed = True
        if self._session is not None:
            self._session.close()
            self._session = None

    def _drive(self, give_up_at: float) -> None:
        """Wait until nothing is under way: only at the end of the process."""
        self._beat_at = float("inf")
        while True:
            now = self._monotonic()
            self._move(now)
            if self._session is None or now >= give_up_at or not (self._session.busy or self._commit):
                return
            descriptor = self.descriptor()
            if descriptor is not None:
                poll = select.poll()
                poll.register(*descriptor)
                poll.poll(50)

    # What runs, and what comes next.

    def _connect(self) -> None:
        if self.target.unresolved:
            if self.target.problem is not None:
                self._problem = self.target.problem
            return
        try:
            self._session = Session(self.target.conninfo(), self._monotonic)
        except PostgresError as error:
            self._fail(self._ledger_error(error))
            return
        self._begin(self._open())

    def _begin(self, flow: Flow[None]) -> None:
        if self._session is not None:
            self._session.begin(flow)

    def _move(self, now: float) -> None:
        if self._closed:
            return
        if self._session is None:
            if not self._backoff.due(now):
                return
            self._connect()
        try:
            while self._session is not None:
                self._session.step()
                if self._session.busy:
                    break
                flow = self._next(now)
                if flow is None:
                    break
                self._begin(flow)
        except PostgresError as error:
            self._fail(self._ledger_error(error))
        except LedgerError as error:
            self._fail(error)

    def _next(self, now: float) -> Flow[None] | None:
        """Choose what to do on an idle connection: the lease first, then by turns commits and what makes room."""
        if now >= self._beat_at:
            return self._beat()
        for queue in self._queues.values():
            if queue.asked:
                return self._bind(queue)
        commit = self._commit
        if commit is not None and (self._pruned_last or not self._to_prune):
            self._pruned_last = False
            return self._run(commit)
        if self._to_prune:
            self._pruned_last = True
            name = next(iter(self._to_prune))
            del self._to_prune[name]
            return self._prune(self._queues[name])
        if self._read_at is not None and now >= self._read_at:
            return self._read()
        return None

    def _fail(self, error: LedgerError) -> None:
        """Give the connection up. What became of the commit under way is not known until it was asked."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._problem = error
        self._backoff.failed(self._monotonic())
        commit, self._commit = self._commit, None
        if commit is not None:
            self._unknown += commit.chunks
            if not commit.begun:
                self._release(commit.batch, "commit_failed")
            self._completed = Completed(None, error, self._monotonic() - commit.started_at)

    def _release(self, batch: Batch, reason: str) -> None:
        for name, of_queue in batch.items():
            uncounted = self._queues[name].uncounted
            uncounted.update(of_queue.released)
            if of_queue.deliveries:
                uncounted[reason] += len(of_queue.deliveries)

    def _ledger_error(self, error: PostgresError) -> LedgerError:
        return ledger_error(error.sqlstate, str(error), str(self.target))

    # The flows.

    def _open(self) -> Flow[None]:
        yield from prepare()
        if self._selected is None:
            self._selected = yield from select_ledger(self._wanted_name)
        if self._replica is not None:
            yield from self._ask(self._replica)
        if self._replica is None:
            rows = yield from retried(query(statements.REGISTER, self._selected.id, VERSION))
            if not rows:
                raise LedgerError("newer_schema", "the ledger in PostgreSQL was just migrated by a newer program")
            self._replica = _Replica(int(text(rows[0][0])))
        yield from self._beat()
        self._problem = None
        self._backoff.succeeded()

    def _ask(self, replica: _Replica) -> Flow[None]:
        """Find out what became of the commits whose end was not seen; a replica that was folded registers anew."""
        rows = yield from retried(query(statements.ASK, replica.id))
        unknown, self._unknown = self._unknown, []
        folded = True
        if rows:
            seq, epoch, was_folded, _ = rows[0]
            replica.seq, replica.epoch, folded = int(text(seq)), int(text(epoch)), was_folded == b"t"
            for chunk in unknown:
                if chunk.seq > replica.seq:
                    chunk.take_back(self._queues)
        if folded:
            self._replica = None
            for queue in self._queues.values():
                queue.unregister()

    def _beat(self) -> Flow[None]:
        """Renew the lease or try for it, and read what all replicas committed."""
        replica, selected = self._opened()
        self._beat_at = self._monotonic() + RENEWAL_SECONDS
        self._lease.asked()
        rows = yield from retried(query(statements.BEAT, replica.id, replica.epoch, selected.id, LEASE_SECONDS))
        if not rows:
            raise _fenced()
        term = single(rows)[0]
        self._lease.answered(None if term is None else int(term))
        yield from self._read()
        self._to_prune.update({name: None for name, queue in self._queues.items() if queue.id is not None})
        if self._lease.held:
            yield from self._mark()
            if self._monotonic() >= self._fold_at:
                self._fold_at = self._monotonic() + FOLD_SECONDS
                for row in (yield query(statements.FIND_GONE, selected.id)):
                    yield from retried(script(*statements.fold(int(text(row[0])))))

    def _read(self) -> Flow[None]:
        _, selected = self._opened()
        term, started_at = self._lease.term, self._monotonic()
        self._read_at = None
        rows = yield query(statements.READ if self._lease.held else statements.LOOK, selected.id)
        if self._lease.held and term == self._lease.term:
            self._snapshots = snapshots(rows, selected, self._caps)
            self._shown_term = term
        by_id = known(rows)
        for queue in self._queues.values():
            if queue.id in by_id:
                queue.known = by_id[queue.id]
                queue.added_ids = 0
        now = self._monotonic()
        self._read_done_at = now
        self._read_interval_seconds = max(READ_SECONDS, _READ_SHARE * (now - started_at))

    def _mark(self) -> Flow[None]:
        """Note when each queue's clock showed what, for the age of the oldest id."""
        for queue in self._queues.values():
            since = queue.known.newest_mark_seconds
            if queue.id is not None and (
                since is None or queue.known.clock_seconds - since >= self._window_seconds / _MARKS_A_WINDOW
            ):
                yield from retried(query(statements.MARK, queue.id, queue.known.clock_seconds))
                yield from retried(query(statements.DROP_MARKS, queue.id))

    def _bind(self, queue: Queue) -> Flow[None]:
        replica, selected = self._opened()
        identity = queue.identity
        rows = yield from retried(
            query(
                statements.BIND,
                selected.id,
                identity.name,
                identity.arn,
                identity.visibility_timeout_seconds,
                identity.retention_seconds,
            )
        )
        if not rows:
            queue.asked, queue.id = queue.identity != identity, None
            queue.error = LedgerError(
                "other_queue",
                f"the ledger {selected.name} holds the counts of another queue called {identity.name}, not those of"
                f" {identity.arn}: use another --ledger.name",
            )
            return
        queue_id = int(text(rows[0][0]))
        yield from retried(query(statements.START_CLOCK, replica.id, queue_id))
        queue.series = yield from load(queue_id, self._caps)
        queue.places = {}
        queue.error = None
        yield from self._read()
        queue.asked, queue.id = queue.identity != identity, queue_id
        self._beat_at = self._monotonic()

    def _run(self, commit: _Commit) -> Flow[None]:
        """Admit what is new, commit chunk by chunk."""
        replica, _ = self._opened()
        for name, of_queue in commit.batch.items():
            yield from self._admit(self._queues[name], of_queue)
        commit.begun = True
        commit.chunks = chunks(commit.batch, self._queues)
        commit.fresh = {name: [False] * len(of_queue.deliveries) for name, of_queue in commit.batch.items()}
        for number, chunk in enumerate(commit.chunks, 1):
            chunk.seq = replica.seq + number
        failpoint.reach("in_commit")
        while commit.chunks:
            chunk = commit.chunks[0]
            statement = chunk.statement(replica.id, replica.epoch, self._queues)
            rows = yield from retried(statement)
            if not rows:
                raise _fenced()
            number, duplicates = single(rows)
            if int(text(number)) != len(chunk.ids):
                raise LedgerError("corrupt", f"PostgreSQL recorded {text(number)} of {len(chunk.ids)} deliveries")
            commit.chunks.pop(0)
            replica.seq = chunk.seq
            self._note(commit, chunk, {position - 1 for position in number_list(duplicates)})
        self._read_at = self._read_done_at + self._read_interval_seconds
        if not commit.batch and self._lease.held:
            yield from self._read()  # after a flush everything that was committed is shown
        self._commit = None
        self._completed = Completed(commit.fresh, None, self._monotonic() - commit.started_at)

    def _admit(self, queue: Queue, of_queue: QueueBatch) -> Flow[None]:
        keys = {delivery.outcome.series for delivery in of_queue.deliveries if not isinstance(delivery.outcome, str)}
        wanted = queue.unplaced(keys)
        if wanted and queue.id is not None:
            queue.series = yield from admit(queue.id, self._caps, sorted(wanted))
            queue.unplaced(wanted)

    def _note(self, commit: _Commit, chunk: Chunk, duplicates: set[int]) -> None:
        """Take in that a chunk is committed."""
        for position, (name, index) in enumerate(chunk.places):
            if position not in duplicates:
                commit.fresh[name][index] = True
        for name, seconds in chunk.clocks.items():
            queue = self._queues[name]
            queue.saved_seconds = seconds
            queue.added_ids += chunk.size
            if queue.added_ids >= _PRUNED_AT_ONCE:
                self._to_prune[name] = None

    def _prune(self, queue: Queue) -> Flow[None]:
        """Forget what is due, or what has to make room."""
        replica, _ = self._opened()
        if queue.id is None:
            return
        clock = queue.known.clock_seconds
        due = int(clock - self._window_seconds)
        events_due = int(clock - self._id_window_seconds)
        room = min(MAX_IDS * queue.known.replicas, self._max_ids // 4)
        excess = queue.known.ids + queue.added_ids + room - self._max_ids
        settled_until, events_until, most = due, events_due, _PRUNED_AT_ONCE
        if excess > 0:
            old_enough = clock - 2 * queue.identity.visibility_timeout_seconds
            settled_until, events_until = max(due, old_enough), max(events_due, old_enough)
            most = min(most, excess)
        rows = yield from retried(
            query(
                statements.PRUNE,
                replica.id,
                replica.epoch,
                queue.id,
                settled_until,
                clock - queue.retention_seconds,
                most,
                events_until,
                due,
                events_due,
            )
        )
        if not rows:
            raise _fenced()
        messages, events = (int(text(value)) for value in single(rows))
        queue.known.ids -= messages + events
        if messages == most or events == most:
            self._to_prune[queue.identity.name] = None

    def _leave(self) -> Flow[None]:
        replica, selected = self._opened()
        yield from retried(query(statements.LEAVE, replica.id, replica.epoch, selected.id))

    def _opened(self) -> tuple[_Replica, Selected]:
        if self._replica is None or self._selected is None:
            raise LedgerError("unavailable", "the ledger in PostgreSQL is not open")
        return self._replica, self._selected


def _fenced() -> LedgerError:
    return LedgerError("unavailable", "this replica was silent for so long that it was taken for gone: it begins anew")
