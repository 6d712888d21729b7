"""The ledger against an exact model, driven by hypothesis: record, redeliver, settle, prune, fail, crash, reopen.

Two queues in one file, one of them with events that have ids of their own; labels that come and go; caps that are met.
2,000 machines of 100 steps, in some minutes:

    HYPOTHESIS_PROFILE=soak pytest -o faulthandler_timeout=0 tests/unit/test_ledger_model.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from one_queue import commit

from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import OTHER, Delivery, QueueBatch, QueueIdentity
from exporter.ledger.sqlite.ids import IdIndex
from exporter.ledger.sqlite.ledger import SqliteLedger

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
VISIBILITY_SECONDS = 4
WINDOW_SECONDS = 16.0
ID_WINDOW_SECONDS = 28.0
RETENTION_SECONDS = 40
MAX_TYPES = 2
MAX_SERIES = 3
RESERVED_IDS = 10
ARN = "arn:aws:sqs:eu-central-1:1:"
QUEUES = {
    "orders": QueueIdentity("orders", ARN + "orders", VISIBILITY_SECONDS, RETENTION_SECONDS, event_ids=True),
    "carts": QueueIdentity("carts", ARN + "carts", VISIBILITY_SECONDS, RETENTION_SECONDS),
}
LABEL_NAMES = [(), ("country",), ("currency", "country"), ("country", "currency")]

IDS = [number.to_bytes(16, "big") for number in range(25)]
EVENT_IDS = [bytes([255, number]) * 8 for number in range(4)]


class Spec(NamedTuple):
    """What a message holds, whatever the labels are today."""

    type: str
    nano: int
    at: float | None
    labels: dict[str, str]
    event_id: bytes | None = None

    def event(self, label_names: tuple[str, ...]) -> Event:
        """Return the event as it is read today."""
        values = (self.labels.get(name, "") for name in label_names)
        return Event((self.type, *values), self.nano, self.at, self.event_id)


SPECS: list[Spec | str] = [
    Spec("shown", 10**24 + 1, 1.0, {}),
    Spec("shown", 5, 1.0, {"country": "de", "currency": "eur"}, EVENT_IDS[0]),
    Spec("a", -3, None, {"country": "fr"}, EVENT_IDS[1]),
    Spec("a", 1, 4.0, {"country": "fr", "currency": "usd"}, EVENT_IDS[1]),
    Spec("b", 10**8, 3.0, {"currency": "usd"}, EVENT_IDS[2]),
    Spec("c", -(10**23), 2.0, {"country": "de"}, EVENT_IDS[3]),
    Spec("d", 0, 9.0, {"country": "ch"}, EVENT_IDS[0]),
    "invalid_json",
    "too_large",
]

names = st.sampled_from(sorted(QUEUES))
small_ids = st.sampled_from(IDS[:15])
# Few choices a step: hypothesis bounds the choices of a whole run.
Arrivals = list[tuple[bytes, Spec | str]]
some_arrivals = st.lists(st.tuples(small_ids, st.sampled_from(SPECS)), max_size=6)
some_seconds = st.sampled_from([0.25, 2.0, 5.0, 8.0, 15.75, 24.0])

Labels = frozenset[tuple[str, str]]
ALL_OTHER: Labels = frozenset({("*", OTHER)})


@dataclass(eq=False)
class Row:
    """What one commit remembered of messages."""

    ids: set[bytes]
    clock: float
    paused: float
    wall: float
    taken: int
    """How many of them came with its deliveries."""


@dataclass(eq=False)
class EventRow:
    """What one commit remembered of events."""

    links: dict[bytes, bytes]
    """Messages and the events they hold, among them those of dropped rows."""
    named: set[bytes]
    """All events it remembered."""
    clock: float
    paused: float
    taken: int


@dataclass
class Committed:
    """Everything of one queue that must survive a crash."""

    rows: list[Row] = field(default_factory=list)
    home: dict[bytes, Row] = field(default_factory=dict)
    unsettled: dict[bytes, float] = field(default_factory=dict)
    event_rows: list[EventRow] = field(default_factory=list)
    event_home: dict[bytes, EventRow] = field(default_factory=dict)
    links: dict[bytes, tuple[bytes, float, EventRow]] = field(default_factory=dict)
    clock: float = 0.0
    paused: float = 0.0
    counts: dict[tuple[str, Labels], int] = field(default_factory=dict)
    sums: dict[tuple[str, Labels], Fraction] = field(default_factory=dict)
    received: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    overflowed: dict[str, int] = field(default_factory=lambda: {"types": 0, "series": 0})
    unreadable: int = 0
    forgotten: int = 0
    without_event_id: int = 0


class ModelQueue:
    """The promise for one queue, one id at a time."""

    def __init__(self, max_ids: int, event_ids: bool, label_names: tuple[str, ...]) -> None:  # noqa: FBT001
        self.max_ids = max_ids
        self.event_ids = event_ids
        self.label_names = label_names
        self.disk = Committed()
        self.begin()
        self.pending: set[bytes] = set()
        self.pending_links: dict[bytes, bytes] = {}
        self.uncounted: dict[str, int] = {}
        self.clock = 0.0
        self.paused = 0.0
        self.age = 0.0
        self.ahead = 0.0
        self.passed_at = 0.0
        self.advanced = 0.0
        self.young: list[tuple[float, int]] = []
        self.spread = False

    def begin(self) -> None:
        """Show what is shown from the start."""
        for key in [("shown", *("" for _ in self.label_names)), self.other(OTHER)]:
            if key not in self.series():
                self.disk.counts[self.stored(key)] = 0

    def ids(self) -> int:
        """All ids that are remembered."""
        return len(self.disk.home) + len(self.disk.event_home)

    def settle(self, ids: list[bytes]) -> None:
        """Keep what is unsettled for the next commit."""
        self.pending |= {i for i in ids if i in self.disk.unsettled}
        self.pending_links.update(
            {i: self.disk.links[i][0] for i in ids if i in self.disk.links and i not in self.pending_links}
        )

    def advance(self, seconds: float) -> None:
        """Let the clock run."""
        self.clock += seconds
        self.advanced += seconds

    def pass_time(self, monotonic: float) -> None:
        """Where the memory was nearly full ids age without receives, too, at most 2 s a step, no second twice."""
        if self.spread:
            elapsed = min(monotonic - self.passed_at, 2.0)
            self.age += elapsed
            self.ahead = min(self.ahead + elapsed, 25.0)
        else:
            counted = min(self.advanced, self.ahead)
            self.age += self.advanced - counted
            self.ahead -= counted
        self.passed_at, self.advanced = monotonic, 0.0
        self.paused = self.age - self.clock
        now = self.age
        self.young = [(at, taken) for at, taken in self.young if at + 0.25 > now - 2 * VISIBILITY_SECONDS]
        unsettled = len(self.disk.unsettled) - len(self.pending)
        young = sum(taken for _, taken in self.young)
        used = young + max(0, min(self.ids() - young, unsettled))
        self.spread = 2 * used >= self.max_ids or self.max_ids - self.ids() < RESERVED_IDS

    def rebuild(self) -> None:
        """Know again from the rows which ids are young."""
        rows: list[Row | EventRow] = [*self.disk.rows, *self.disk.event_rows]
        self.young = sorted((row.clock + row.paused, row.taken) for row in rows)
        self.spread = False

    def commit(self, arrivals: Arrivals, released: dict[str, int], wall: float, monotonic: float) -> list[bool]:
        """Record, prune, settle."""
        self.pass_time(monotonic)
        disk, paused = self.disk, self.paused
        for i in self.pending:
            disk.unsettled.pop(i)
        for i in self.pending_links:
            disk.links.pop(i)
        fresh, new, renewed = [], set[bytes](), {i for i, _ in arrivals if i in disk.home}
        links: dict[bytes, bytes] = {}
        seen_events = set(disk.event_home)
        for message_id, spec in arrivals:
            event_id = spec.event_id if self.event_ids and isinstance(spec, Spec) else None
            is_new = message_id not in renewed and message_id not in new
            fresh.append(is_new and event_id not in seen_events)
            new |= {message_id} - renewed
            disk.received += 1
            if fresh[-1]:
                self.count(spec)
                seen_events |= {event_id} - {None}  # type: ignore[arg-type]
            else:
                disk.duplicate += 1
            if event_id is not None and event_id in seen_events:
                links[message_id] = event_id
        for reason, number in [*released.items(), *self.uncounted.items()]:
            disk.received += number
            disk.released[reason] = disk.released.get(reason, 0) + number
        self.uncounted = {}

        excess = self.ids() + len(new) + len(links) - self.max_ids + RESERVED_IDS
        of_events = excess * len(disk.event_home) // max(1, self.ids())
        carried = self.prune(renewed, excess - of_events)
        carried_links = self.prune_events({*links.values(), *self.pending_links.values()}, links, of_events)
        row = Row(new | renewed | carried, self.clock, paused, wall, len(new | renewed))
        if row.ids or self.pending:
            disk.rows.append(row)
            self.young.append((row.clock + row.paused, row.taken))
        disk.home.update(dict.fromkeys(row.ids, row))
        disk.unsettled.update(dict.fromkeys(new | renewed, self.clock))
        self.remember_events(links, carried_links)
        disk.clock, disk.paused = self.clock, paused
        self.pending, self.pending_links = set(), {}
        return fresh

    def remember_events(self, links: dict[bytes, bytes], carried: dict[bytes, tuple[bytes, float]]) -> None:
        """Write what the commit has to say of events."""
        disk = self.disk
        all_links = links | {i: event_id for i, (event_id, _) in carried.items()}
        named = {*all_links.values(), *self.pending_links.values()}
        if not named:
            return
        row = EventRow(all_links, named, self.clock, self.paused, len(links))
        disk.event_rows.append(row)
        self.young.append((row.clock + row.paused, row.taken))
        disk.event_home.update(dict.fromkeys(named, row))
        disk.links.update({i: (event_id, self.clock, row) for i, event_id in links.items()})
        disk.links.update({i: (event_id, since, row) for i, (event_id, since) in carried.items()})

    def count(self, spec: Spec | str) -> None:
        """Count one new message."""
        disk = self.disk
        if isinstance(spec, str):
            disk.rejected[spec] = disk.rejected.get(spec, 0) + 1
            return
        stored = self.stored(self.place(spec.event(self.label_names).series))
        disk.counts[stored] = disk.counts.get(stored, 0) + 1
        disk.sums[stored] = disk.sums.get(stored, Fraction()) + Fraction(spec.nano, 10**9)
        disk.unreadable += spec.at is None
        disk.without_event_id += self.event_ids and spec.event_id is None

    def place(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """Find the series that has the event."""
        known = set(self.series())
        types = {name for name, *_ in known} - {"shown", OTHER}
        if key[0] not in types | {"shown"} and len(types) >= MAX_TYPES:
            self.disk.overflowed["types"] += 1
            return self.other(OTHER)
        empty = ("shown", *("" for _ in self.label_names))
        sets = {other for other in known if OTHER not in other and other != empty}
        if self.label_names and key not in {*known, empty} and len(sets) >= MAX_SERIES:
            self.disk.overflowed["series"] += 1
            return self.other(key[0])
        return key

    def other(self, name: str) -> tuple[str, ...]:
        """Return the series of a type that has what is too much."""
        return (name, *(OTHER for _ in self.label_names))

    def stored(self, key: tuple[str, ...]) -> tuple[str, Labels]:
        """Return a series by the names of its labels."""
        if key[0] == OTHER or (self.label_names and key == self.other(key[0])):
            return key[0], ALL_OTHER
        return key[0], frozenset((n, v) for n, v in zip(self.label_names, key[1:], strict=True) if v)

    def series(self) -> dict[tuple[str, ...], tuple[int, Fraction]]:
        """Sum up all that was counted by today's labels."""
        series: dict[tuple[str, ...], tuple[int, Fraction]] = {}
        for (name, labels), number in self.disk.counts.items():
            values = dict(labels)
            key = (name, *(OTHER if labels == ALL_OTHER else values.get(label, "") for label in self.label_names))
            before, total = series.get(key, (0, Fraction()))
            series[key] = (before + number, total + self.disk.sums.get((name, labels), 0))
        return series

    def old_enough(self, row: Row | EventRow, excess: int) -> bool:
        """Tell whether a row may be dropped early."""
        return excess > 0 and self.clock - row.clock + self.paused - row.paused >= 2 * VISIBILITY_SECONDS

    def droppable(self, row: Row, excess: int) -> bool:
        """Tell whether a row is due, says nothing, or may be dropped early."""
        return not row.ids or self.clock - row.clock >= WINDOW_SECONDS or self.old_enough(row, excess)

    def events_droppable(self, row: EventRow, excess: int) -> bool:
        """Tell whether a row of events is due, or may be dropped early."""
        return self.clock - row.clock >= ID_WINDOW_SECONDS or self.old_enough(row, excess)

    def prune(self, renewed: set[bytes], excess: int) -> set[bytes]:
        """Forget messages from the oldest row on; returns what is carried."""
        disk = self.disk
        carried: set[bytes] = set()
        while disk.rows and self.droppable(disk.rows[0], excess):
            row = disk.rows.pop(0)
            for i in [i for i in row.ids - renewed if disk.home.get(i) is row]:
                if i in disk.unsettled and self.clock - disk.unsettled[i] < RETENTION_SECONDS:
                    carried.add(i)
                    continue
                disk.forgotten += i not in disk.unsettled and self.clock - row.clock < WINDOW_SECONDS
                disk.unsettled.pop(i, None)
                del disk.home[i]
                excess -= 1
        return carried

    def prune_events(
        self, renewed: set[bytes], links: dict[bytes, bytes], excess: int
    ) -> dict[bytes, tuple[bytes, float]]:
        """Forget events from the oldest row on; returns the links that are carried."""
        disk = self.disk
        carried: dict[bytes, tuple[bytes, float]] = {}
        while disk.event_rows and self.events_droppable(disk.event_rows[0], excess):
            row = disk.event_rows.pop(0)
            kept = set()
            for i in [i for i in row.links if i not in links and i in disk.links and disk.links[i][2] is row]:
                event_id, since, _ = disk.links[i]
                if self.clock - since < RETENTION_SECONDS:
                    carried[i] = (event_id, since)
                    kept.add(event_id)
                else:
                    disk.links.pop(i)
            for event_id in [e for e in row.named - renewed - kept if disk.event_home.get(e) is row]:
                disk.forgotten += self.clock - row.clock < ID_WINDOW_SECONDS
                del disk.event_home[event_id]
                excess -= 1
        return carried

    def waits(self) -> bool:
        """Tell whether the next commit has anything to write."""
        return bool(self.pending or self.pending_links or self.uncounted)

    def wants_flush(self, monotonic: float) -> bool:
        """Tell whether a flush has anything to write."""
        if self.waits() or self.clock != self.disk.clock:
            return True
        self.pass_time(monotonic)
        rows, event_rows, excess = self.disk.rows, self.disk.event_rows, self.ids() - self.max_ids + RESERVED_IDS
        prunable = rows and self.droppable(rows[0], excess)
        return bool(prunable or (event_rows and self.events_droppable(event_rows[0], excess)))

    def crash(self, monotonic: float) -> None:
        """Lose what was not committed."""
        self.pending, self.pending_links, self.uncounted = set(), {}, {}
        self.clock, self.paused = self.disk.clock, self.disk.paused
        self.age, self.ahead = self.clock + self.paused, 0.0
        self.passed_at, self.advanced = monotonic, 0.0
        self.rebuild()


class LedgerMachine(RuleBasedStateMachine):
    """Every step on the ledger and on the model; afterwards they show the same."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.places = 0
        self.wall = 1_700_000_000.0
        self.monotonic = 0.0

    @initialize(max_ids=st.sampled_from([24, 40, 80]), label_names=st.sampled_from(LABEL_NAMES))
    def begin(self, max_ids: int, label_names: tuple[str, ...]) -> None:
        """Open a new ledger."""
        self.max_ids = max_ids
        self.label_names = label_names
        self.model = {name: ModelQueue(max_ids, name == "orders", label_names) for name in sorted(QUEUES)}
        self.path = self.directory / "ledger.db"
        self.ledger = self.open(self.path)

    def open(self, path: Path) -> SqliteLedger:
        """Open a ledger with the machine's settings."""
        ledger = SqliteLedger(
            str(path),
            types=("shown",),
            max_types=MAX_TYPES,
            label_names=self.label_names,
            max_series=MAX_SERIES,
            window_seconds=WINDOW_SECONDS,
            id_window_seconds=ID_WINDOW_SECONDS,
            max_ids=self.max_ids,
            wall_clock=lambda: self.wall,
            monotonic=lambda: self.monotonic,
        )
        for identity in QUEUES.values():
            ledger.bind(identity)
            assert ledger.bound(identity.name)
        return ledger

    def deliveries(self, arrivals: Arrivals) -> list[Delivery]:
        """Return what arrived as the consumer reads it today."""
        return [Delivery(i, spec if isinstance(spec, str) else spec.event(self.label_names)) for i, spec in arrivals]

    def commit_to_model(self, by_queue: dict[str, Arrivals], released: dict[str, int]) -> dict[str, list[bool]]:
        """Commit what arrived to the model, and what else waits."""
        waiting = [name for name, queue in self.model.items() if name not in by_queue and queue.waits()]
        fresh = {
            name: self.model[name].commit(arrivals, released, self.wall, self.monotonic)
            for name, arrivals in by_queue.items()
        }
        for name in waiting:
            self.model[name].commit([], {}, self.wall, self.monotonic)
        return fresh

    @rule(name=names, arrivals=some_arrivals, released=st.sampled_from([{}, {"md5_mismatch": 2}]))
    def record(self, name: str, arrivals: Arrivals, released: dict[str, int]) -> None:
        """Commit what arrived of one queue, with duplicates inside and across commits."""
        batch = {name: QueueBatch(self.deliveries(arrivals), released)}
        assert commit(self.ledger, batch) == self.commit_to_model({name: arrivals}, released)

    @rule(one=some_arrivals, two=some_arrivals)
    def record_both(self, one: Arrivals, two: Arrivals) -> None:
        """Commit what arrived of each queue at once."""
        batch = {"carts": QueueBatch(self.deliveries(one)), "orders": QueueBatch(self.deliveries(two))}
        assert commit(self.ledger, batch) == self.commit_to_model({"carts": one, "orders": two}, {})

    @rule(name=names, arrivals=some_arrivals, seconds=some_seconds)
    def record_after_a_while(self, name: str, arrivals: Arrivals, seconds: float) -> None:
        """Let time pass and commit what arrived: what makes rows due one after the other."""
        self.advance(name, seconds)
        self.record(name, arrivals, {})

    @rule(name=names, number=st.integers(1, 25), seconds=some_seconds)
    def record_and_settle(self, name: str, number: int, seconds: float) -> None:
        """Do what a healthy consumer does: record what arrived and settle all of it."""
        self.record(name, [(i, SPECS[1]) for i in IDS[:number]], {})
        self.settle(name, IDS[:number])
        self.advance(name, seconds)

    @rule(name=names, ids=st.lists(small_ids, max_size=4) | st.just(IDS))
    def settle(self, name: str, ids: list[bytes]) -> None:
        """Settle known and unknown ids, some twice."""
        self.ledger.settle(name, ids)
        self.model[name].settle(ids)

    @rule(name=names, seconds=some_seconds)
    def advance(self, name: str, seconds: float) -> None:
        """Let receives succeed for a while."""
        self.monotonic += seconds
        self.wall += seconds
        self.ledger.advance(name, seconds)
        self.model[name].advance(seconds)

    @rule(seconds=some_seconds, jump=st.sampled_from([0.0, -1e6, 1e6]))
    def wait(self, seconds: float, jump: float) -> None:
        """Let time pass in which nothing is received, and Unix time jump."""
        self.monotonic += seconds
        self.wall += seconds + jump

    @rule()
    def flush(self) -> None:
        """Write what waits."""
        commit(self.ledger, {})
        for queue in [queue for queue in self.model.values() if queue.wants_flush(self.monotonic)]:
            queue.commit([], {}, self.wall, self.monotonic)

    @rule()
    def crash(self) -> None:
        """Go on with what is on disk: database and log as they are at this moment."""
        old, self.places = self.path, self.places + 1
        self.path = self.copy_files(f"ledger-{self.places}.db")
        self.ledger.close()
        old.unlink()
        self.start_again()

    @rule(label_names=st.none() | st.sampled_from(LABEL_NAMES))
    def restart(self, label_names: tuple[str, ...] | None) -> None:
        """Close and open again, sometimes with other labels."""
        self.flush()
        self.ledger.close()
        self.label_names = self.label_names if label_names is None else label_names
        self.start_again()

    def start_again(self) -> None:
        """Open what is on disk."""
        self.ledger = self.open(self.path)
        for queue in self.model.values():
            queue.label_names = self.label_names
            queue.begin()
            queue.crash(self.monotonic)

    @rule()
    def reopen(self) -> None:
        """Rebuild from disk; what was settled since the last commit is not lost."""
        self.ledger.reopen()
        for queue in self.model.values():
            queue.rebuild()

    @rule(name=names, arrivals=some_arrivals, released=st.sampled_from([{}, {"md5_mismatch": 2}]))
    def fail_and_reopen(self, name: str, arrivals: Arrivals, released: dict[str, int]) -> None:
        """Let a commit fail: its deliveries are accounted for with the next one."""
        away = self.fail({name: QueueBatch(self.deliveries(arrivals), released)})
        away.rename(self.path)
        self.ledger.reopen()
        for of_queue, queue in self.model.items():
            if of_queue == name or queue.waits():
                queue.pass_time(self.monotonic)
            queue.rebuild()
        uncounted = self.model[name].uncounted
        for reason, number in [*released.items(), ("commit_failed", len(arrivals))]:
            if number:
                uncounted[reason] = uncounted.get(reason, 0) + number

    @precondition(lambda self: not any(queue.spread for queue in self.model.values()))
    @rule(name=names, arrivals=some_arrivals)
    def fail_though_it_is_on_disk(self, name: str, arrivals: Arrivals) -> None:
        """Let a commit fail that proves to have succeeded: it counts as it was recorded, and once."""
        twin_path = self.copy_files("twin.db")
        twin = self.open(twin_path)
        batch = {name: QueueBatch(self.deliveries(arrivals))}
        for of_queue, queue in self.model.items():
            if of_queue != name and not queue.waits():
                continue
            twin.advance(of_queue, queue.clock - queue.disk.clock)
            twin.settle(of_queue, queue.pending | set(queue.pending_links))
            if queue.uncounted:
                batch.setdefault(of_queue, QueueBatch()).released = dict(queue.uncounted)
        commit(twin, batch)
        self.fail({name: QueueBatch(self.deliveries(arrivals))})
        twin.close()
        twin_path.rename(self.path)
        Path(f"{self.path}-wal").unlink()  # it is that of the file that was moved away
        self.ledger.reopen()
        self.commit_to_model({name: arrivals}, {})
        for queue in self.model.values():
            queue.rebuild()

    def fail(self, batch: dict[str, QueueBatch]) -> Path:
        """Move the ledger away, so that a commit fails; returns where it is."""
        away = self.directory / "away.db"
        self.path.rename(away)
        with pytest.raises(LedgerError):
            commit(self.ledger, batch)
        return away

    def copy_files(self, name: str) -> Path:
        """Copy database and log as they are at this moment."""
        copied = self.directory / name
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{copied}{suffix}")
        return copied

    @precondition(lambda self: hasattr(self, "ledger"))
    @invariant()
    def agree(self) -> None:
        """Show the same as the model, to the last digit."""
        assert self.ledger.problem is None
        for name, queue in self.model.items():
            snapshot, disk = self.ledger.snapshots[name], queue.disk
            shown = {
                key: (totals.count, Fraction(totals.value_nano - totals.negative_nano, 10**9))
                for key, totals in snapshot.series.items()
            }
            assert shown == queue.series()
            assert (snapshot.received, snapshot.duplicate) == (disk.received, disk.duplicate)
            assert (snapshot.rejected, snapshot.released) == (disk.rejected, disk.released)
            assert snapshot.received == snapshot.counted + snapshot.duplicate + sum(snapshot.rejected.values()) + sum(
                snapshot.released.values()
            )
            assert snapshot.timestamps_unreadable == disk.unreadable
            assert snapshot.overflowed == disk.overflowed
            assert snapshot.without_event_id == disk.without_event_id
            assert snapshot.forgotten_early == disk.forgotten
            assert snapshot.messages == queue.ids()
            assert snapshot.unsettled_messages == len(disk.unsettled)
            assert snapshot.oldest_message_seconds == (disk.rows[0].wall if disk.home else None)
            assert 0 <= self.ledger.capacity(name) <= max(0, queue.max_ids - queue.ids())
            queue.pass_time(self.monotonic)

    def teardown(self) -> None:
        """Close and clean up."""
        self.ledger.close()
        shutil.rmtree(self.directory)


LedgerMachine.TestCase.settings = settings(
    max_examples=2_000 if SOAK else 30,
    stateful_step_count=100 if SOAK else 50,
    deadline=None,
    derandomize=not SOAK,
    suppress_health_check=[HealthCheck.too_slow],
)
test_ledger_agrees_with_the_model = LedgerMachine.TestCase

# Zeros make ids match across the entries of a bucket.
colliding_ids = st.integers(0, 3).flatmap(
    lambda zeros: st.integers(0, 2).map(lambda last: bytes(zeros * 4) + bytes([last]) * (16 - zeros * 4))
)


@settings(max_examples=2_000 if SOAK else 60, deadline=None, derandomize=not SOAK)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "renew", "remove"]), st.lists(colliding_ids, unique=True), st.integers(0, 2**33)
        )
    )
)
def test_the_index_of_ids_is_a_dict(steps: list[tuple[str, list[bytes], int]]) -> None:
    """Whatever the ids are, the index knows what a dict would, and which commit remembered each last."""
    index, model = IdIndex(), dict[bytes, int]()
    for action, ids, seq in steps:
        if action == "add":
            new = [i for i in ids if i not in model]
            index.add(new, seq)
            model.update(dict.fromkeys(new, seq))
        elif action == "renew":
            index.renew(ids, seq)
            model.update(dict.fromkeys(ids, seq))
        else:
            index.remove(ids)
            for i in ids:
                model.pop(i, None)
        assert len(index) == len(model)
        assert index.known(ids) == {i for i in ids if i in model}
        assert index.remembered_by(model, seq) == [i for i in model if model[i] % 2**32 == seq % 2**32]
