"""How the ledger reaches PostgreSQL: through a transaction-pooling proxy, over TLS, with a password from a file."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import Authority
from postgres_replica import Replica, purchases
from postgres_server import ROLE, PostgresServer, pgbouncer, postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_replicas_share_the_connections_of_a_transaction_pooling_proxy(postgres: PostgresServer) -> None:
    """Five replicas over two connections: nothing relies on a session, and each message is counted once.

    A commit may fail where a replica waits too long for a connection: then the messages are delivered again.
    """
    postgres.new_database("pooled")
    with pgbouncer(postgres) as port:
        replicas = [Replica(postgres.url(database="pooled", port=port)) for _ in range(5)]
        deliveries = purchases(400)
        for one in replicas:
            one.submit(deliveries)
        for one in [one for one in replicas if one.end().error is not None]:
            one.deliver(deliveries)
        replicas[-1].settle(deliveries)
        snapshot = replicas[0].snapshot()
        assert (snapshot.counted, snapshot.duplicate, snapshot.unsettled_messages) == (400, 1_600, 0)
        for one in replicas:
            one.ledger.close()


@pytest.fixture
def tls(postgres: PostgresServer, tmp_path: Path) -> Iterator[Authority]:
    """Have the server demand TLS and a password, and give who signed its certificate."""
    authority = Authority(tmp_path)
    signed = authority.sign("server")
    for source, name in ((signed.certificate, "server.crt"), (signed.key, "server.key")):
        target = postgres.data / name
        shutil.copy(source, target)
        target.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(target, "postgres")
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    postgres.execute(f"ALTER ROLE {ROLE} PASSWORD 'correct horse'")
    postgres.execute("ALTER SYSTEM SET ssl = on")
    postgres.execute("SELECT pg_reload_conf()")
    _wait_for_tls(postgres)
    yield authority
    rules.write_text(before)
    postgres.execute("SELECT pg_reload_conf()")


def _wait_for_tls(postgres: PostgresServer) -> None:
    deadline = time.monotonic() + 60
    while postgres.execute("SHOW ssl") != [("on",)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tls_verifies_the_server_and_the_password_comes_from_a_file(
    postgres: PostgresServer, tls: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPASSFILE is read anew at each connection; the host's name is verified although its address was given."""
    passwords = tmp_path / "passwords"
    passwords.write_text(f"localhost:{postgres.port}:*:{ROLE}:wrong horse\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    url = postgres.url(database="shop").replace("127.0.0.1", "localhost")
    one = Replica(f"{url}?sslmode=verify-full&sslrootcert={tls.certificate}", wait=False)
    one.ledger.target.resolve()
    one.until(lambda: "PGPASSFILE" in str(one.ledger.problem))
    assert "horse" not in str(one.ledger.problem)
    passwords.write_text(f"localhost:{postgres.port}:*:{ROLE}:correct horse\n")
    one.wait_until_bound()
    assert one.commit(purchases(2)) == [True, True]
    in_use = postgres.execute(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = %s", ROLE
    )
    assert in_use == [(True,)]
    one.ledger.close()


def test_a_server_that_is_not_who_it_says_is_refused(postgres: PostgresServer, tls: Authority, tmp_path: Path) -> None:
    """A certificate of another authority ends the connection, with libpq's reason."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    assert other.certificate != tls.certificate
    one = Replica(f"{postgres.url()}?sslmode=verify-ca&sslrootcert={other.certificate}", wait=False)
    one.until(lambda: "certificate verify failed" in str(one.ledger.problem))
    one.ledger.close()


def test_a_failover_to_a_synchronous_standby_loses_and_doubles_nothing() -> None:
    """The primary dies in a commit, the standby is promoted: what was confirmed is there, the rest is asked."""
    with postgres_server() as primary, tempfile.TemporaryDirectory(prefix="postgres-") as directory:
        standby = PostgresServer(Path(directory))
        try:
            standby.be_standby_of(primary)
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            one = Replica(f"postgresql://{ROLE}@{hosts}/shop?target_session_attrs=read-write")
            confirmed = purchases(500)
            assert one.commit(confirmed) == [True] * 500
            under_way = purchases(2_000)
            one.submit(under_way)
            primary.stop(signal.SIGQUIT)
            one.end()
            one.until(lambda: one.ledger.problem is not None)
            standby.promote()
            assert one.deliver(confirmed) == [False] * 500
            assert set(one.deliver(under_way)) in ({True}, {False})
            assert one.snapshot().counted == 2_500
            one.ledger.close()
        finally:
            standby.close()
