"""The ledger against an exact model, driven by hypothesis: record, redeliver, settle, prune, fail, crash, reopen.

Two queues in one file, one of them with events that have ids of their own; labels that come and go; caps that are met.
2,000 machines of 100 steps, in some minutes:

    HYPOTHESIS_PROFILE=soak pytest -o faulthandler_timeout=0 tests/unit/test_ledger_model.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_model import (
    ID_WINDOW_SECONDS,
    MAX_SERIES,
    MAX_TYPES,
    RETENTION_SECONDS,
    VISIBILITY_SECONDS,
    WINDOW_SECONDS,
    Arrivals,
    ModelQueue,
    Spec,
)
from one_queue import commit

from exporter.errors import LedgerError
from exporter.ledger import Delivery, QueueBatch, QueueIdentity
from exporter.ledger.sqlite.ids import IdIndex
from exporter.ledger.sqlite.ledger import SqliteLedger

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
ARN = "arn:aws:sqs:eu-central-1:1:"
QUEUES = {
    "orders": QueueIdentity("orders", ARN + "orders", VISIBILITY_SECONDS, RETENTION_SECONDS, event_ids=True),
    "carts": QueueIdentity("carts", ARN + "carts", VISIBILITY_SECONDS, RETENTION_SECONDS),
}
LABEL_NAMES = [(), ("country",), ("currency", "country"), ("country", "currency")]

IDS = [number.to_bytes(16, "big") for number in range(25)]
EVENT_IDS = [bytes([255, number]) * 8 for number in range(4)]


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
some_arrivals = st.lists(st.tuples(small_ids, st.sampled_from(SPECS)), max_size=6)
some_seconds = st.sampled_from([0.25, 2.0, 5.0, 8.0, 15.75, 24.0])


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
