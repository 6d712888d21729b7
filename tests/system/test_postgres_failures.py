"""PostgreSQL gone, slow, wrongly set up or cut off: nothing is counted twice or guessed, and all recovers."""

# ruff: noqa: S608 - the schema's name is a constant, the rest a test's own

from __future__ import annotations

import itertools
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from postgres_replica import Proxy, Replica, event, new_id, purchases
from postgres_server import DATABASE, ROLE, PostgresServer, free_port, postgres_server

from exporter.ledger import Delivery
from exporter.ledger.postgres import schema
from exporter.ledger.postgres.inspection import inspect
from exporter.ledger.postgres.schema import Migration, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLES = "sqs_event_exporter"
SIDE_BY_SIDE = 8
"""Replicas: most of what they do is to wait."""


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    """Put a proxy before the server."""
    between = Proxy(postgres.port)
    yield between
    between.close()


def through(proxy: Proxy, database_url: str) -> str:
    """Return the URL by way of the proxy."""
    before, _, database = database_url.rpartition("/")
    return f"{before.rpartition(':')[0]}:{proxy.port}/{database}?sslmode=disable"


def database_of(database_url: str) -> str:
    """Return the name of the database."""
    return database_url.rpartition("/")[2]


def recover(one: Replica) -> None:
    """Wait until the ledger is open again."""
    one.until(lambda: one.ledger.problem is None)


def problem_of(one: Replica, *words: str) -> str:
    """Wait for a problem whose sentence holds the words; returns it."""
    one.until(lambda: one.ledger.problem is not None and all(word in str(one.ledger.problem) for word in words))
    return str(one.ledger.problem)


def test_a_statement_that_is_held_up_until_after_the_question_writes_nothing(
    proxy: Proxy, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """The question what became of it raises the epoch, which shuts the old statement out when it arrives at last."""
    one = open_replica(through(proxy, database_url))
    deliveries = purchases(10)
    one.commit(purchases(1))
    proxy.flowing.clear()
    one.submit(deliveries, {"malformed": 3})
    one.until(proxy.held.is_set)
    proxy.cut()
    one.ledger.target._parameters["port"] = database_url.rpartition("/")[0].rpartition(":")[2]  # noqa: SLF001 - past the proxy
    assert one.end().error is not None
    recover(one)
    proxy.flowing.set()
    assert one.commit(deliveries) == [True] * 10
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.duplicate) == (11, 0)
    assert snapshot.released == {"commit_failed": 10, "malformed": 3}


def test_a_commit_whose_answer_is_lost_is_known_to_be_committed(
    proxy: Proxy, database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """The server committed, the answer did not come: nothing is released, and the deliveries are duplicates then."""
    one = open_replica(through(proxy, database_url))
    deliveries = purchases(10)
    one.commit(purchases(1))
    proxy.answering.clear()
    one.submit(deliveries)
    count = f"SELECT count(*) FROM {TABLES}.message_ids"
    deadline = time.monotonic() + 60
    while postgres.execute(count, database=database_of(database_url)) != [(11,)]:
        assert time.monotonic() < deadline
    proxy.cut()
    assert one.end().error is not None
    proxy.answering.set()
    recover(one)
    assert one.commit(deliveries) == [False] * 10
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.duplicate, snapshot.released) == (11, 10, {})


@pytest.mark.parametrize("within", [False, True])
def test_a_connection_may_be_cut_at_every_message(
    within: bool,  # noqa: FBT001 - a parameter of the test
    postgres: PostgresServer,
    database_url: str,
    open_replica: Callable[..., Replica],
) -> None:
    """Cut before or within each message of either side, up to that of the commit's end: counts are exact."""

    def counts_exactly(messages: int) -> bool:
        """Commit over a connection that is cut after so many messages; returns whether there were as many."""
        proxy = Proxy(postgres.port)
        proxy.cut_after, proxy.cut_within = messages, within
        one = Replica(through(proxy, database_url))
        deliveries = purchases(3)
        one.submit(deliveries)
        completed = one.end()
        fresh = one.deliver(deliveries)
        assert fresh in ([True] * 3, [False] * 3)
        assert completed.fresh is None or fresh == [False] * 3
        one.ledger.close()
        proxy.close()
        return proxy.messages == messages

    watcher = open_replica(database_url)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for first in itertools.count(0, SIDE_BY_SIDE):
            were_cut = list(pool.map(counts_exactly, range(first, first + SIDE_BY_SIDE)))
            assert watcher.snapshot().counted == 3 * (first + SIDE_BY_SIDE)
            if not all(were_cut):
                break
    assert first > 100


def test_a_server_that_crashes_in_a_commit_is_asked_again(
    postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """Killed at random moments of commits and started again: what was redelivered is counted once."""
    one = open_replica()
    counted = 0
    for _ in range(3):
        deliveries = purchases(2_000)
        one.submit(deliveries)
        postgres.stop(signal.SIGQUIT)
        completed = one.end()
        problem_of(one, "127.0.0.1")
        postgres.start()
        assert set(one.deliver(deliveries)) in ({True}, {False})
        counted += 2_000
        assert completed.error is not None
        assert one.snapshot().counted == counted


def test_sessions_that_are_ended_are_made_again(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """An administrator who ends the sessions costs a reconnect, and counts nothing twice."""
    one = open_replica()
    counted = 0
    for _ in range(10):
        deliveries = purchases(500)
        one.submit(deliveries)
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database_of(database_url)
        )
        one.end()
        assert set(one.deliver(deliveries)) in ({True}, {False})
        counted += 500
    assert one.snapshot().counted == counted


def test_a_deadlock_is_run_again(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """A transaction that PostgreSQL ends because of another (40P01, 40001) is repeated as a whole."""
    one = open_replica()
    postgres.execute(
        f"""CREATE SEQUENCE {TABLES}.tries; GRANT USAGE ON {TABLES}.tries TO {ROLE};
        CREATE FUNCTION {TABLES}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('{TABLES}.tries') < 4 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
          RETURN NEW; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON {TABLES}.message_ids FOR EACH ROW EXECUTE FUNCTION {TABLES}.fail()""",
        database=database_of(database_url),
    )
    assert one.commit(purchases(2)) == [True, True]
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.released) == (2, {})


def test_a_full_disk_stops_commits_and_ends(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """While PostgreSQL has no disk space nothing is committed, the reason is said, and afterwards all goes on."""
    one = open_replica()
    postgres.execute(
        f"""CREATE FUNCTION {TABLES}.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_ BEFORE INSERT ON {TABLES}.message_ids FOR EACH ROW EXECUTE FUNCTION {TABLES}.full()""",
        database=database_of(database_url),
    )
    deliveries = purchases(2)
    one.submit(deliveries)
    error = one.end().error
    assert error is not None
    assert error.reason == "full"
    assert "No space left" in str(error)
    postgres.execute(f"DROP TRIGGER full_ ON {TABLES}.message_ids", database=database_of(database_url))
    recover(one)
    assert one.commit(deliveries) == [True, True]
    assert one.snapshot().released == {"commit_failed": 2}


def test_while_there_is_a_problem_deliveries_are_released(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """What is submitted without a connection is counted as released later."""
    one = open_replica()
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database_of(database_url)
    )
    one.until(lambda: one.ledger.problem is not None)
    one.submit(purchases(3))
    assert one.end().error is not None
    recover(one)
    one.commit(purchases(1))
    assert one.snapshot().released == {"ledger_unavailable": 3}


def test_a_database_that_becomes_read_only_is_waited_for(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """The sentence says what it is; once it takes writes the ledger goes on."""
    one = open_replica()
    postgres.execute(f"ALTER DATABASE {database_of(database_url)} SET default_transaction_read_only = on")
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database_of(database_url)
    )
    problem_of(one, "read-only", "target_session_attrs=read-write")
    postgres.execute(f"ALTER DATABASE {database_of(database_url)} SET default_transaction_read_only = off")
    recover(one)
    assert one.commit(purchases(1)) == [True]


def test_out_of_connections_is_waited_for(postgres: PostgresServer, open_replica: Callable[..., Replica]) -> None:
    """A role at its limit of connections is a sentence, and the ledger opens when one is free."""
    postgres.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    one = open_replica(wait=False)
    try:
        problem_of(one, "too many connections")
    finally:
        postgres.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    one.wait_until_bound()


def test_a_server_that_is_absent_at_the_start_is_waited_for() -> None:
    """Nothing fails: the problem says where PostgreSQL was looked for."""
    port = free_port()
    one = Replica(f"postgresql://{ROLE}:secret@127.0.0.1:{port}/{DATABASE}", wait=False)
    assert "secret" not in problem_of(one, "127.0.0.1", str(port), "refused")
    one.ledger.close()


def test_a_host_that_does_not_answer_is_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch, open_replica: Callable[..., Replica]
) -> None:
    """A machine that lost its power refuses nothing: the URL's next host is tried, and the ledger opens there."""
    monkeypatch.setattr("exporter.ledger.postgres.session.CONNECT_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = database_url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},")
        one = open_replica(url, wait=False)
        one.until(lambda: one.ledger.problem is None)
        assert isinstance(inspect(url, None), str)


def test_commits_have_their_turn_where_the_network_is_slow(
    proxy: Proxy, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """Renewing the lease takes longer than the second after which it is due again."""
    one = open_replica(through(proxy, database_url))
    one.commit(purchases(1))
    proxy.delay_seconds = 0.06
    for _ in range(3):
        assert one.commit(purchases(1)) == [True]


def test_a_row_that_is_locked_does_not_hold_up_the_speaker(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """A replica that is gone may have left a statement that never ends: it is folded later, and all else goes on."""
    gone = open_replica()
    gone.commit(purchases(5))
    one = open_replica()
    database = database_of(database_url)
    gone_id = gone.ledger._replica.row.id  # noqa: SLF001
    folded = f"SELECT folded_at IS NOT NULL FROM {TABLES}.replicas WHERE id = {gone_id}"
    with psycopg.connect(postgres.url(role="postgres", database=database)) as holder:
        holder.execute(f"UPDATE {TABLES}.replicas SET renewed_at = '-infinity' WHERE id = {gone_id}".encode())
        holder.execute(f"UPDATE {TABLES}.speakers SET expires_at = '-infinity'".encode())
        holder.commit()
        holder.execute(f"SELECT FROM {TABLES}.replicas WHERE id = {gone_id} FOR UPDATE".encode())
        one.until(lambda: one.ledger.speaker)
        assert one.commit(purchases(1)) == [True]
        assert postgres.execute(folded, database=database) == [(False,)]
    one.ledger._replica._fold_at = float("-inf")  # noqa: SLF001 - not only ten seconds later
    one.until(lambda: postgres.execute(folded, database=database) == [(True,)])
    assert one.snapshot().counted == 6


def test_a_host_is_looked_up_by_somebody_else(database_url: str) -> None:
    """The ledger waits for `target.resolve`; the loop never waits for a resolver."""
    one = Replica(database_url.replace("127.0.0.1", "localhost"), wait=False)
    assert one.ledger.completed() is None
    assert one.ledger.descriptor() is None
    one.ledger.target.resolve()
    one.wait_until_bound()
    one.ledger.close()
    lost = Replica(database_url.replace("127.0.0.1", "host.invalid"), wait=False)
    lost.ledger.target.resolve()
    problem_of(lost, "host.invalid")


def test_a_role_without_rights_is_told_the_grant(postgres: PostgresServer) -> None:
    """Without the right to make a schema, or to use one, the sentence holds the statement that helps."""
    postgres.execute("DROP DATABASE IF EXISTS foreign_shop WITH (FORCE)")
    postgres.execute("CREATE DATABASE foreign_shop")
    one = Replica(postgres.url(database="foreign_shop"), wait=False)
    assert f"GRANT CREATE ON DATABASE foreign_shop TO {ROLE}" in problem_of(one, "GRANT")
    postgres.execute(f"CREATE SCHEMA {TABLES}", database="foreign_shop")
    assert f"GRANT USAGE, CREATE ON SCHEMA {TABLES} TO {ROLE}" in problem_of(one, "GRANT USAGE")
    postgres.execute(f"GRANT USAGE, CREATE ON SCHEMA {TABLES} TO {ROLE}", database="foreign_shop")
    one.wait_until_bound()
    postgres.execute(f"REVOKE INSERT ON {TABLES}.message_ids FROM {ROLE}", database="foreign_shop")
    one.submit(purchases(1))
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES" in str(one.end().error)
    postgres.execute(f"GRANT INSERT ON {TABLES}.message_ids TO {ROLE}", database="foreign_shop")
    recover(one)
    one.ledger.close()


def test_commits_are_durable_whatever_the_role_is_set_to(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """Each statement sets synchronous_commit to on for its transaction, unless it is stricter."""
    for default, during in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        postgres.execute(f"ALTER DATABASE {database_of(database_url)} SET synchronous_commit = {default}")
        one = open_replica()
        postgres.execute(
            f"""CREATE TABLE IF NOT EXISTS {TABLES}.seen (value text); GRANT INSERT ON {TABLES}.seen TO {ROLE};
            CREATE OR REPLACE FUNCTION {TABLES}.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO {TABLES}.seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
            CREATE CONSTRAINT TRIGGER look AFTER INSERT ON {TABLES}.message_ids
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {TABLES}.look();
            CREATE CONSTRAINT TRIGGER look AFTER INSERT ON {TABLES}.clocks
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {TABLES}.look()""",
            database=database_of(database_url),
        )
        one.commit(purchases(1))
        one.ledger.close()
        open_replica().ledger.close()
        seen = postgres.execute(f"DELETE FROM {TABLES}.seen RETURNING value", database=database_of(database_url))
        assert seen == [(during,)] * 2
        postgres.execute(
            f"DROP TRIGGER look ON {TABLES}.message_ids; DROP TRIGGER look ON {TABLES}.clocks",
            database=database_of(database_url),
        )


def test_a_server_without_fsync_is_refused() -> None:
    """It could lose what it says is committed."""
    with postgres_server([("fsync", "off")]) as unsafe:
        one = Replica(unsafe.url(), wait=False)
        problem_of(one, "fsync = on")
        assert one.ledger.problem is not None
        assert one.ledger.problem.reason == "unsafe"


def test_a_newer_ledger_is_refused(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """A ledger that takes no writer as old as this program is left alone; one that does is used."""
    open_replica().ledger.close()
    postgres.execute(f"UPDATE {TABLES}.schema SET version = 2", database=database_of(database_url))
    open_replica().ledger.close()
    postgres.execute(f"UPDATE {TABLES}.schema SET oldest_writer = 2", database=database_of(database_url))
    problem_of(open_replica(wait=False), "use the newer program")


def test_an_additive_migration_runs_beside_older_replicas(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one goes on; a step that is not additive waits until it is gone."""
    older = open_replica()
    added = Migration(2, 1, (f"ALTER TABLE {TABLES}.queues ADD COLUMN IF NOT EXISTS note text",))
    changed = Migration(3, 3, (f"ALTER TABLE {TABLES}.queues DROP COLUMN IF EXISTS note",))
    ledger = "exporter.ledger.postgres.replica"
    monkeypatch.setattr(f"{ledger}.prepare", lambda: prepare(2, (added,)))
    monkeypatch.setattr(f"{ledger}.VERSION", 2)
    newer = open_replica()
    assert older.commit(purchases(1)) == newer.commit(purchases(1)) == [True]
    monkeypatch.setattr(f"{ledger}.prepare", lambda: prepare(3, (added, changed)))
    monkeypatch.setattr(f"{ledger}.VERSION", 3)
    newest = open_replica(wait=False)
    problem_of(newest, "2 older replicas still write")
    older.ledger.close()
    newer.ledger.close()
    newest.wait_until_bound()
    assert postgres.execute(
        f"SELECT version, oldest_writer FROM {TABLES}.schema", database=database_of(database_url)
    ) == [(3, 3)]
    assert newest.snapshot().counted == 2
    assert schema.VERSION == 1


def test_replicas_that_start_together_make_one_ledger(database_url: str) -> None:
    """Eight at once on an empty database agree on one ledger with a name made up."""
    replicas = [Replica(database_url, wait=False) for _ in range(8)]
    deadline = time.monotonic() + 60
    while not all(one.ledger.problem is None and one.ledger.bound("orders") for one in replicas):
        assert time.monotonic() < deadline
        for one in replicas:
            one.ledger.completed()
    assert len({one.ledger.name for one in replicas}) == 1
    for one in replicas:
        one.ledger.close()


def test_a_replica_that_sleeps_within_a_transaction_holds_up_nobody(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """Asleep while it admits a type, under the queue's lock: PostgreSQL ends its session, and the others go on."""
    sleeper, one = open_replica(), open_replica()
    sleeper.beat()
    sleeper.ledger._replica.beat_at = float("inf")  # noqa: SLF001 - nothing but the commit is to wait for the lock
    database = database_of(database_url)
    waits = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    with psycopg.connect(postgres.url(role="postgres", database=database)) as holder:
        holder.execute(f"SELECT FROM {TABLES}.queues FOR UPDATE".encode())
        sleeper.submit([Delivery(new_id(), event("new"))])
        sleeper.until(lambda: postgres.execute(waits) == [(1,)])
    # The lock is the sleeper's now, which is not driven any more.
    assert one.commit([Delivery(new_id(), event("other"))]) == [True]
    assert sleeper.end().error is not None
    sleeper.deliver([Delivery(new_id(), event("new"))])
    assert one.snapshot().series["new",].count >= 1


def test_several_ledgers_share_a_database(open_replica: Callable[..., Replica]) -> None:
    """--ledger.name selects one; without it several are a sentence that lists them."""
    one, other = open_replica(name="shop-eu"), open_replica(name="shop-us")
    (message,) = purchases(1)
    assert one.commit([message]) == other.commit([message]) == [True]
    assert (one.ledger.name, other.ledger.name) == ("shop-eu", "shop-us")
    assert one.snapshot().ledger == "shop-eu"
    problem_of(open_replica(wait=False), "--ledger.name", "shop-eu, shop-us")


def test_a_replica_that_is_gone_is_folded_and_a_sleeper_begins_anew(
    database_url: str, postgres: PostgresServer, open_replica: Callable[..., Replica]
) -> None:
    """The rows of a silent replica move to no replica; when it wakes up it writes nothing as who it was."""
    sleeper = open_replica()
    deliveries = purchases(5)
    sleeper.commit(deliveries)
    one = open_replica()
    sleeper_id = sleeper.ledger._replica.row.id  # noqa: SLF001
    postgres.execute(
        f"UPDATE {TABLES}.replicas SET renewed_at = now() - interval '2 min' WHERE id = {sleeper_id};"
        f"UPDATE {TABLES}.speakers SET expires_at = '-infinity'",
        database=database_of(database_url),
    )
    folded = f"SELECT count(*) FROM {TABLES}.totals WHERE replica_id = {sleeper_id}"
    one.until(lambda: postgres.execute(folded, database=database_of(database_url)) == [(0,)])
    assert one.snapshot().counted == 5
    more = purchases(2)
    sleeper.submit(more)
    completed = sleeper.end()
    assert completed.error is not None
    recover(sleeper)
    assert sleeper.commit([*deliveries, *more]) == [False] * 5 + [True] * 2
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.duplicate, snapshot.released) == (7, 5, {"commit_failed": 2})


def test_event_ids_survive_a_failed_commit(
    proxy: Proxy, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """An event whose commit did not happen is counted when it comes again, by message or by event id."""
    one = open_replica(through(proxy, database_url))
    event_id = new_id()
    proxy.flowing.clear()
    one.submit([Delivery(new_id(), event(event_id=event_id))])
    one.until(proxy.held.is_set)
    proxy.cut()
    proxy.flowing.set()
    assert one.end().error is not None
    recover(one)
    fresh = one.commit([Delivery(new_id(), event(event_id=event_id))])
    assert one.snapshot().counted == 1
    assert fresh in ([True], [False])
