"""The ledger against an exact model, driven by hypothesis: record, redeliver, settle, prune, fail, crash, reopen.

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

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import OTHER_TYPE, Delivery, QueueIdentity
from exporter.ledger.sqlite.ids import IdIndex
from exporter.ledger.sqlite.ledger import SqliteLedger

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
VISIBILITY_SECONDS = 4
WINDOW_SECONDS = 16.0
RETENTION_SECONDS = 40
MAX_TYPES = 2
RESERVED_IDS = 10
QUEUE = QueueIdentity("orders", "arn:aws:sqs:eu-central-1:1:orders", VISIBILITY_SECONDS, RETENTION_SECONDS)

IDS = [number.to_bytes(16, "big") for number in range(25)]
OUTCOMES: list[Event | str] = [
    Event(("shown",), 10**24 + 1, 1.0),
    Event(("a",), -3, None),
    Event(("b",), 10**8, 3.0),
    Event(("c",), -(10**23), 2.0),
    Event(("d",), 0, 9.0),
    "invalid_json",
    "too_large",
]

small_ids = st.sampled_from(IDS)
# Few choices a step: hypothesis bounds the choices of a whole run.
deliveries_of_a_turn = st.lists(
    st.tuples(small_ids, st.sampled_from(OUTCOMES)).map(lambda pair: Delivery(*pair)), max_size=6
)
some_seconds = st.sampled_from([0.25, 2.0, 5.0, 8.0, 15.75, 24.0])


@dataclass
class Row:
    """What one commit remembered."""

    ids: set[bytes]
    clock: float
    paused: float
    wall: float
    taken: int
    """How many of them came with its deliveries."""


@dataclass
class Committed:
    """Everything that must survive a crash."""

    rows: list[Row] = field(default_factory=list)
    home: dict[bytes, Row] = field(default_factory=dict)
    unsettled: dict[bytes, float] = field(default_factory=dict)
    clock: float = 0.0
    paused: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: {"shown": 0, OTHER_TYPE: 0})
    sums: dict[str, Fraction] = field(default_factory=dict)
    received: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    forgotten: int = 0


class Model:
    """The promise, one id at a time."""

    def __init__(self, max_ids: int) -> None:
        self.max_ids = max_ids
        self.disk = Committed()
        self.pending: set[bytes] = set()
        self.uncounted: dict[str, int] = {}
        self.clock = 0.0
        self.paused = 0.0
        self.passed_at = 0.0
        self.advanced = 0.0
        self.young: list[tuple[float, int]] = []
        self.old_unsettled = 0
        self.free = max_ids

    def settle(self, ids: list[bytes]) -> None:
        """Keep what is unsettled for the next commit."""
        self.pending |= {i for i in ids if i in self.disk.unsettled}

    def advance(self, seconds: float) -> None:
        """Let the clock run."""
        self.clock += seconds
        self.advanced += seconds

    def spread(self) -> bool:
        """Tell whether half of the memory can't be dropped, or it is full."""
        used = sum(taken for _, taken in self.young) + self.old_unsettled
        return 2 * used >= self.max_ids or self.free < RESERVED_IDS

    def pass_time(self, monotonic: float) -> None:
        """Where there is little room ids age without receives, too, at most 2 s a step; no second counts twice."""
        if self.spread():
            self.paused += max(0.0, min(monotonic - self.passed_at, 2.0) - self.advanced)
        self.passed_at, self.advanced = monotonic, 0.0
        now = self.clock + self.paused
        self.young = [(at, taken) for at, taken in self.young if at + 0.25 > now - 2 * VISIBILITY_SECONDS]
        unsettled = len(self.disk.unsettled) - len(self.pending)
        self.free = self.max_ids - len(self.disk.home)
        self.old_unsettled = max(0, min(len(self.disk.home) - sum(taken for _, taken in self.young), unsettled))

    def rebuild(self) -> None:
        """Know again from the rows which ids are young."""
        self.young = [(row.clock + row.paused, row.taken) for row in self.disk.rows]
        self.old_unsettled, self.free = 0, self.max_ids

    def commit(self, turn: list[Delivery], released: dict[str, int], wall: float, monotonic: float) -> list[bool]:
        """Record, prune, settle."""
        self.pass_time(monotonic)
        disk, paused = self.disk, self.paused
        for i in self.pending:
            disk.unsettled.pop(i)
        fresh, new, renewed = [], set[bytes](), {d.message_id for d in turn if d.message_id in disk.home}
        for delivery in turn:
            message_id, outcome = delivery.message_id, delivery.outcome
            fresh.append(message_id not in renewed and message_id not in new)
            disk.received += 1
            if not fresh[-1]:
                disk.duplicate += 1
                continue
            new.add(message_id)
            self.count(outcome)
        for reason, number in [*released.items(), *self.uncounted.items()]:
            disk.received += number
            disk.released[reason] = disk.released.get(reason, 0) + number
        self.uncounted = {}

        carried = self.prune(renewed, len(new), paused)
        row = Row(new | renewed | carried, self.clock, paused, wall, len(new | renewed))
        if row.ids or self.pending:
            disk.rows.append(row)
            self.young.append((row.clock + row.paused, row.taken))
        disk.home.update(dict.fromkeys(row.ids, row))
        disk.unsettled.update(dict.fromkeys(new | renewed, self.clock))
        disk.clock, disk.paused = self.clock, paused
        self.pending = set()
        self.pass_time(monotonic)
        return fresh

    def count(self, outcome: Event | str) -> None:
        """Count one new message."""
        disk = self.disk
        if isinstance(outcome, str):
            disk.rejected[outcome] = disk.rejected.get(outcome, 0) + 1
            return
        name = outcome.type
        if name not in disk.counts and len(disk.counts) >= 2 + MAX_TYPES:
            name = OTHER_TYPE
        disk.counts[name] = disk.counts.get(name, 0) + 1
        disk.sums[name] = disk.sums.get(name, Fraction()) + Fraction(outcome.value_nano, 10**9)
        disk.unreadable += outcome.occurred_at_seconds is None

    def droppable(self, row: Row, excess: int, paused: float) -> bool:
        """Tell whether a row is due, says nothing, or may make room."""
        old_enough = self.clock - row.clock + paused - row.paused >= 2 * VISIBILITY_SECONDS
        return not row.ids or self.clock - row.clock >= WINDOW_SECONDS or (excess > 0 and old_enough)

    def prune(self, renewed: set[bytes], added: int, paused: float) -> set[bytes]:
        """Forget from the oldest row on; returns what is carried."""
        disk = self.disk
        carried: set[bytes] = set()
        excess = len(disk.home) + added - self.max_ids + RESERVED_IDS
        while disk.rows and self.droppable(disk.rows[0], excess, paused):
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

    def wants_flush(self, monotonic: float) -> bool:
        """Tell whether a flush has anything to write."""
        self.pass_time(monotonic)
        rows, excess = self.disk.rows, len(self.disk.home) - self.max_ids + RESERVED_IDS
        changed = self.pending or self.uncounted or self.clock != self.disk.clock
        return bool(changed or (rows and self.droppable(rows[0], excess, self.paused)))

    def crash(self, monotonic: float) -> None:
        """Lose what was not committed."""
        self.pending, self.uncounted = set(), {}
        self.clock, self.paused = self.disk.clock, self.disk.paused
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

    @initialize(max_ids=st.sampled_from([14, 24, 40]))
    def begin(self, max_ids: int) -> None:
        """Open a new ledger."""
        self.model = Model(max_ids)
        self.path = self.directory / "ledger.db"
        self.ledger = self.open(self.path)

    def open(self, path: Path) -> SqliteLedger:
        """Open a ledger with the machine's settings."""
        ledger = SqliteLedger(
            str(path),
            queue_name="orders",
            types=("shown",),
            max_types=MAX_TYPES,
            window_seconds=WINDOW_SECONDS,
            max_ids=self.model.max_ids,
            wall_clock=lambda: self.wall,
            monotonic=lambda: self.monotonic,
        )
        ledger.bind(QUEUE)
        return ledger

    @rule(turn=deliveries_of_a_turn, released=st.sampled_from([{}, {"md5_mismatch": 2}]))
    def record(self, turn: list[Delivery], released: dict[str, int]) -> None:
        """Commit a turn, with duplicates inside and across turns."""
        assert self.ledger.record(turn, released) == self.model.commit(turn, released, self.wall, self.monotonic)

    @rule(turn=deliveries_of_a_turn, seconds=some_seconds)
    def record_after_a_while(self, turn: list[Delivery], seconds: float) -> None:
        """Let time pass and commit a turn: what makes rows due one after the other."""
        self.advance(seconds)
        self.record(turn, {})

    @rule(number=st.integers(1, 25), seconds=some_seconds)
    def record_and_settle(self, number: int, seconds: float) -> None:
        """Do what a healthy consumer does: record a turn and settle all of it."""
        self.record([Delivery(i, OUTCOMES[1]) for i in IDS[:number]], {})
        self.settle(IDS[:number])
        self.advance(seconds)

    @rule(ids=st.lists(small_ids, max_size=4) | st.just(IDS))
    def settle(self, ids: list[bytes]) -> None:
        """Settle known and unknown ids, some twice."""
        self.ledger.settle(ids)
        self.model.settle(ids)

    @rule(seconds=some_seconds)
    def advance(self, seconds: float) -> None:
        """Let receives succeed for a while."""
        self.monotonic += seconds
        self.wall += seconds
        self.ledger.advance(seconds)
        self.model.advance(seconds)

    @rule(seconds=some_seconds, jump=st.sampled_from([0.0, -1e6, 1e6]))
    def wait(self, seconds: float, jump: float) -> None:
        """Let time pass in which nothing is received, and Unix time jump."""
        self.monotonic += seconds
        self.wall += seconds + jump

    @rule()
    def flush(self) -> None:
        """Write what waits."""
        self.ledger.flush()
        if self.model.wants_flush(self.monotonic):
            self.model.commit([], {}, self.wall, self.monotonic)

    @rule()
    def crash(self) -> None:
        """Go on with what is on disk: database and log as they are at this moment."""
        old, self.places = self.path, self.places + 1
        self.path = self.copy_files(f"ledger-{self.places}.db")
        self.ledger.close()
        old.unlink()
        self.ledger = self.open(self.path)
        self.model.crash(self.monotonic)

    @rule()
    def restart(self) -> None:
        """Close and open again."""
        self.flush()
        self.ledger.close()
        self.ledger = self.open(self.path)
        self.model.crash(self.monotonic)

    @rule()
    def reopen(self) -> None:
        """Rebuild from disk; what was settled since the last commit is not lost."""
        self.ledger.reopen()
        self.model.rebuild()

    @rule(turn=deliveries_of_a_turn, released=st.sampled_from([{}, {"md5_mismatch": 2}]))
    def fail_and_reopen(self, turn: list[Delivery], released: dict[str, int]) -> None:
        """Let a commit fail: its deliveries are accounted for with the next one."""
        away = self.directory / "away.db"
        self.path.rename(away)
        with pytest.raises(LedgerError):
            self.ledger.record(turn, released)
        away.rename(self.path)
        self.ledger.reopen()
        self.model.pass_time(self.monotonic)
        self.model.rebuild()
        for reason, number in [*released.items(), ("commit_failed", len(turn))]:
            if number:
                self.model.uncounted[reason] = self.model.uncounted.get(reason, 0) + number

    @precondition(lambda self: not self.model.spread())
    @rule(turn=deliveries_of_a_turn)
    def fail_though_it_is_on_disk(self, turn: list[Delivery]) -> None:
        """Let a commit fail that turns out to have succeeded: it counts as it was recorded, and once."""
        twin_path = self.copy_files("twin.db")
        twin = self.open(twin_path)
        twin.advance(self.model.clock - self.model.disk.clock)
        twin.settle(self.model.pending)
        twin.record(turn, self.model.uncounted)
        away = self.directory / "away.db"
        self.path.rename(away)
        with pytest.raises(LedgerError):
            self.ledger.record(turn, {})
        twin.close()
        twin_path.rename(self.path)
        Path(f"{self.path}-wal").unlink()  # it is that of the file that was moved away
        self.ledger.reopen()
        self.model.commit(turn, {}, self.wall, self.monotonic)
        self.model.rebuild()

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
        snapshot, disk = self.ledger.snapshot, self.model.disk
        assert {name: totals.count for name, totals in snapshot.types.items()} == disk.counts
        for name, totals in snapshot.types.items():
            assert Fraction(totals.value_nano - totals.negative_nano, 10**9) == disk.sums.get(name, 0)
        assert (snapshot.received, snapshot.duplicate) == (disk.received, disk.duplicate)
        assert (snapshot.rejected, snapshot.released) == (disk.rejected, disk.released)
        assert snapshot.received == snapshot.counted + snapshot.duplicate + sum(snapshot.rejected.values()) + sum(
            snapshot.released.values()
        )
        assert snapshot.timestamps_unreadable == disk.unreadable
        assert snapshot.forgotten_early == disk.forgotten
        assert snapshot.messages == len(disk.home)
        assert snapshot.unsettled_messages == len(disk.unsettled)
        assert snapshot.oldest_message_seconds == (disk.rows[0].wall if disk.home else None)
        assert 0 <= self.ledger.capacity <= max(0, self.model.max_ids - len(disk.home))
        self.model.pass_time(self.monotonic)

    def teardown(self) -> None:
        """Close and clean up."""
        self.ledger.close()
        shutil.rmtree(self.directory)


LedgerMachine.TestCase.settings = settings(
    max_examples=2_000 if SOAK else 60,
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
