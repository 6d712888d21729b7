"""The parts of the ledger in PostgreSQL that need no server: the lease, the URL, parameters, and how a batch is cut."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from exporter.errors import LedgerError, WrongSettingError
from exporter.events.event import Event
from exporter.ledger import OTHER, Delivery, QueueBatch, QueueIdentity
from exporter.ledger.postgres.admission import QueueSeries
from exporter.ledger.postgres.batches import MAX_IDS, Chunk, chunks
from exporter.ledger.postgres.commits import Commit, run
from exporter.ledger.postgres.connection import PostgresError, Statement
from exporter.ledger.postgres.encoding import number_list, numbers, texts, uuids
from exporter.ledger.postgres.flow import Pause, pause_after, query, retried, transaction
from exporter.ledger.postgres.problems import ledger_error
from exporter.ledger.postgres.pruning import Limits
from exporter.ledger.postgres.queue import Known, Queue
from exporter.ledger.postgres.replica import Replica, ReplicaRow
from exporter.ledger.postgres.speaker import LEASE_SECONDS, Lease
from exporter.ledger.postgres.target import Target
from exporter.ledger.series import OTHER_LABELS, Caps

if TYPE_CHECKING:
    from exporter.ledger.postgres.connection import Rows
    from exporter.ledger.postgres.flow import Flow

CAPS = Caps(types=200, series=1_000, shown=frozenset(), label_names=())


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def is_held(lease: Lease) -> bool:
    """Tell whether the lease is held, anew each time."""
    return lease.held


def test_a_lease_is_counted_from_before_it_was_asked_for() -> None:
    """An answer that took two seconds leaves that much less, and the row in the database ends later than the holder."""
    clock = Clock()
    lease = Lease(clock)
    assert not is_held(lease)
    lease.asked()
    clock.now += 2
    lease.answered(7)
    assert is_held(lease)
    assert lease.term == 7
    clock.now = 100 + LEASE_SECONDS - 0.051
    assert is_held(lease)
    clock.now = 100 + LEASE_SECONDS - 0.049
    assert not is_held(lease)


def test_a_lease_that_another_replica_holds_is_not_held() -> None:
    """The answer ends it at once, as giving it up does."""
    lease = Lease(Clock())
    lease.asked()
    lease.answered(1)
    lease.answered(None)
    assert not is_held(lease)
    lease.answered(2)
    lease.give_up()
    assert not is_held(lease)


def test_a_url_keeps_its_password_to_itself() -> None:
    """What is shown of it is where the server is."""
    target = Target("postgresql://exporter:secret@10.0.0.1:6432/shop")
    assert str(target) == "10.0.0.1 port 6432 (shop)"
    assert "password=secret" in target.conninfo()


def is_unresolved(target: Target) -> bool:
    """Tell whether the resolver has to be asked, anew each time."""
    return target.unresolved


def test_each_address_of_a_host_is_tried_under_its_name() -> None:
    """The names stay for TLS; the addresses are those that were looked up."""
    target = Target("postgresql://exporter@one.example,10.0.0.2:5433,two.example/shop?target_session_attrs=read-write")
    target._parameters["port"] = "5432,5433,5434"  # noqa: SLF001 - as libpq reads a URL with one port for each host
    assert is_unresolved(target)
    target._addresses = {"one.example": ["192.0.2.1", "192.0.2.2"], "two.example": ["2001:db8::1"]}  # noqa: SLF001
    assert not is_unresolved(target)
    conninfo = target.conninfo()
    assert "host=one.example,one.example,10.0.0.2,two.example" in conninfo
    assert "hostaddr=192.0.2.1,192.0.2.2,10.0.0.2,2001:db8::1" in conninfo
    assert "port=5432,5432,5433,5434" in conninfo
    assert "target_session_attrs=read-write" in conninfo


@pytest.mark.parametrize("url", ["postgresql:///shop?host=/var/run/postgresql", "postgresql:///shop?hostaddr=10.0.0.1"])
def test_a_socket_or_address_needs_no_resolver(url: str) -> None:
    """It can be connected to at once."""
    assert not Target(url).unresolved


@pytest.mark.parametrize("url", ["postgresql://shop?colour=blue", "postgresql:///shop?host=a,b,c&port=5432,5433"])
def test_a_wrong_url_is_a_wrong_setting(url: str) -> None:
    """The sentence holds an example of what would be right."""
    with pytest.raises(WrongSettingError, match=r"postgresql://exporter@db\.example:5432/shop"):
        Target(url)


def test_ports_of_the_environment_that_match_no_host_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGPORT counts where the URL has no port; what libpq would refuse is said at the start."""
    monkeypatch.setenv("PGPORT", "5432,5433")
    with pytest.raises(WrongSettingError, match="2 ports"):
        Target("postgresql://db.example/shop")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql:///shop", "the local socket port 5432 (shop)"),
        ("postgresql:///shop?hostaddr=10.0.0.1", "10.0.0.1 port 5432 (shop)"),
        ("postgresql:///?service=shop-eu", "service shop-eu"),
    ],
)
def test_it_is_said_where_a_url_leads(url: str, where: str) -> None:
    """To the local socket only where nothing else is named."""
    assert str(Target(url)) == where


@pytest.mark.parametrize("host", ["host.invalid", "host..example"])
def test_a_host_that_is_not_found_is_a_problem(host: str) -> None:
    """The name is in the sentence, and the ledger goes on waiting; also where it can't be a name at all."""
    target = Target(f"postgresql://exporter@{host}/shop")
    target.resolve()
    assert target.unresolved
    assert target.problem is not None
    assert host in str(target.problem)


def test_one_host_that_is_found_is_enough() -> None:
    """The name of a server that is down may be gone from the DNS: the others are connected to."""
    target = Target("postgresql://exporter@host.invalid,10.0.0.2/shop")
    assert is_unresolved(target)
    target.resolve()
    assert not is_unresolved(target)
    assert "host=10.0.0.2 " in target.conninfo() + " "


def test_each_host_comes_first_once() -> None:
    """One that does not answer is the last at the next try."""
    target = Target("postgresql:///shop?host=10.0.0.1,10.0.0.2,10.0.0.3&port=5433")
    orders = [conninfo.partition("hostaddr=")[2].partition(" ")[0] for conninfo in target.conninfos()]
    assert orders == ["10.0.0.1,10.0.0.2,10.0.0.3", "10.0.0.2,10.0.0.3,10.0.0.1", "10.0.0.3,10.0.0.1,10.0.0.2"]


def test_arrays_are_written_as_postgresql_reads_them() -> None:
    """Whole numbers of any size, absent values and quoted texts."""
    assert numbers([1, None, 10**24, -2.5]) == "{1,NULL,1000000000000000000000000,-2.5}"
    assert texts(['a"b', None, "c\\d"]) == '{"a\\"b",NULL,"c\\\\d"}'
    assert number_list(b"{3,17}") == [3, 17]
    assert number_list(b"{}") == []
    assert uuids([b"a" * 16, None]) == (
        bytes.fromhex("00000001 00000001 00000b86 00000002 00000001 00000010") + b"a" * 16 + b"\xff" * 4
    )
    assert uuids([]) == bytes.fromhex("00000000 00000000 00000b86")


def queue(identity: QueueIdentity | None = None) -> Queue:
    """Make a queue that is bound, with one series."""
    made = Queue(identity or QueueIdentity("orders", "arn:orders"), id=1)
    made.series = QueueSeries(CAPS, [(b"9", b"purchase", b"{}")])
    made.unplaced([("purchase",)])
    return made


def purchases(number: int, event_id: bytes | None = None) -> list[Delivery]:
    """Make new messages."""
    return [Delivery(os.urandom(16), Event(("purchase",), 5, 1.0, event_id)) for _ in range(number)]


def ids_of(chunk: Chunk) -> int:
    """Count the ids that a statement changes."""
    return len(chunk.ids) + len(chunk.settled) + sum(id_ is not None for id_ in chunk.event_ids)


def test_no_statement_has_more_ids_than_allowed() -> None:
    """Messages, events and settled ids together; nothing is left out."""
    orders = queue()
    orders.settled = dict.fromkeys(os.urandom(16) for _ in range(3_000))
    deliveries = purchases(4_000) + purchases(3_000, b"e" * 16)
    cut = chunks({"orders": QueueBatch(deliveries, {"malformed": 2})}, {"orders": orders})
    assert all(ids_of(chunk) <= MAX_IDS for chunk in cut)
    assert sum(map(ids_of, cut)) == 3_000 + 4_000 + 6_000
    assert [index for chunk in cut for _, index in chunk.places] == list(range(7_000))
    assert not orders.settled


def test_what_is_not_committed_waits_for_the_next_commit() -> None:
    """Deliveries are released, what was released before and what was settled waits."""
    orders = queue()
    settled = os.urandom(16)
    orders.settled = {settled: None}
    deliveries = purchases(3)
    (chunk,) = chunks({"orders": QueueBatch([*deliveries, deliveries[0]], {"malformed": 2})}, {"orders": orders})
    chunk.take_back({"orders": orders})
    assert orders.uncounted == {"commit_failed": 4, "malformed": 2}
    assert orders.settled == {settled: None}


def test_nothing_to_write_is_no_statement() -> None:
    """A clock that has hardly moved is no reason for a commit; one that has run for a second is."""
    orders = queue()
    orders.receiving_seconds = 0.5
    assert chunks({}, {"orders": orders}) == []
    orders.receiving_seconds = 1.0
    assert len(chunks({}, {"orders": orders})) == 1


def test_a_batch_may_have_more_types_than_are_kept_in_memory() -> None:
    """Where each of them is counted is known until the batch is written, however many strangers send."""
    caps = Caps(types=0, series=0, shown=frozenset(), label_names=())
    replica = Replica("", caps, 3_600, Lease(Clock()))
    replica._row = ReplicaRow(1)  # noqa: SLF001 - as if it had registered
    replica.queues["orders"] = Queue(QueueIdentity("orders", "arn:orders"), id=1)
    replica.queues["orders"].series = QueueSeries(caps, [(b"9", OTHER.encode(), OTHER_LABELS.encode())])
    for first in (0, 6_000):
        deliveries = [Delivery(os.urandom(16), Event((f"type {first + n}",), 5, 1.0, None)) for n in range(6_000)]
        flow = run(replica, Commit({"orders": QueueBatch(deliveries)}, 0.0))
        assert isinstance(next(flow), Statement)


def test_capacity_is_shared_among_replicas() -> None:
    """What is free is divided by the replicas that live, and by two where events have ids of their own."""
    limits = Limits(3_600, 3_600, 10_000)
    orders = queue()
    orders.known = Known(ids=4_000, replicas=3)
    assert limits.capacity(orders) == 2_000
    orders.identity = QueueIdentity("orders", "arn:orders", event_ids=True)
    assert limits.capacity(orders) == 1_000
    orders.known = Known(ids=10_500, replicas=3)
    assert limits.capacity(orders) == 0
    assert "--ledger.max-ids" in (limits.limited(orders) or "")


def test_a_transaction_that_lost_is_run_again_after_a_pause() -> None:
    """Serialization failures and deadlocks are repeated; any other error is raised."""
    flow = retried(query("SELECT 1"))
    assert isinstance(next(flow), Statement)
    for sqlstate in ("40001", "40P01"):
        assert isinstance(flow.throw(PostgresError(sqlstate, "lost")), Pause)
        assert isinstance(flow.send([]), Statement)
    with pytest.raises(PostgresError, match="no"):
        flow.throw(PostgresError("42501", "no"))


def test_a_pause_has_an_end_after_any_number_of_failures() -> None:
    """At most a second."""
    assert 0 <= pause_after(5_000).seconds <= 1


def one_statement() -> Flow[Rows]:
    """Run a statement."""
    return (yield query("SELECT 1"))


def sql(step: Statement | Pause) -> bytes:
    """Return the SQL of a statement."""
    assert isinstance(step, Statement)
    return step.sql


def test_a_transaction_that_fails_is_rolled_back() -> None:
    """Not where the connection is gone: there is nothing left to roll back."""
    for sqlstate, more in (("23505", [b"ROLLBACK"]), (None, [])):
        flow = transaction(one_statement)
        assert sql(next(flow)).startswith(b"BEGIN")
        flow.send([])
        rest = []
        with contextlib.suppress(PostgresError):
            rest.append(sql(flow.throw(PostgresError(sqlstate, "failed"))))
            flow.send([])
            pytest.fail("the error has to come out")
        assert rest == more


@pytest.mark.parametrize("at_commit", [False, True])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_several_statements_that_lost_are_run_again_from_the_first(sqlstate: str, at_commit: bool) -> None:  # noqa: FBT001
    """After a rollback and a pause."""
    flow = transaction(one_statement)
    assert sql(next(flow)).startswith(b"BEGIN")
    assert sql(flow.send([])) == b"SELECT 1"
    if at_commit:
        assert sql(flow.send([])) == b"COMMIT"
    assert sql(flow.throw(PostgresError(sqlstate, "lost"))) == b"ROLLBACK"
    assert isinstance(flow.send([]), Pause)
    assert sql(flow.send([])).startswith(b"BEGIN")
    assert sql(flow.send([])) == b"SELECT 1"
    assert sql(flow.send([(b"1",)])) == b"COMMIT"
    with pytest.raises(StopIteration) as end:
        flow.send([])
    assert end.value.value == [(b"1",)]


@pytest.mark.parametrize(
    ("sqlstate", "reason", "words"),
    [
        ("53100", "full", "No space"),
        ("53300", "unavailable", "max_connections"),
        ("42501", "unreadable", "GRANT SELECT, INSERT, UPDATE, DELETE"),
        ("25006", "read_only", "target_session_attrs=read-write"),
        ("28P01", "unavailable", "PGPASSFILE"),
        (None, "unavailable", "can't be reached"),
    ],
)
def test_a_failure_is_one_sentence_with_what_helps(sqlstate: str | None, reason: str, words: str) -> None:
    """What PostgreSQL said, where, and what to do."""
    error = ledger_error(sqlstate, "No space left on device", "db.example port 5432 (shop)")
    assert isinstance(error, LedgerError)
    assert error.reason == reason
    assert words in str(error)
    assert "\n" not in str(error)
