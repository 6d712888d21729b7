"""One replica speaks: the lease, who takes it over and when, and that nobody else shows what the ledger keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from exporter.ledger.postgres.speaker import LEASE_SECONDS, boottime
from postgres_replica import Proxy, Replica, purchases
from postgres_server import postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postgres_server import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Run a server for all tests of this file."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """Make a database of the test's own."""
    return server.new_database("s" + str(abs(hash(request.node.name))))


@pytest.fixture
def replica(url: str) -> Iterator[Callable[..., Replica]]:
    """Open replicas that are closed after the test."""
    opened: list[Replica] = []

    def open_(at: str = url, **settings: Any) -> Replica:  # noqa: ANN401
        opened.append(Replica(at, **settings))
        return opened[-1]

    yield open_
    for one in opened:
        one.ledger.close()


def drive(replicas: list[Replica], condition: Callable[[], bool], seconds: float = 60) -> None:
    """Drive several replicas until the condition holds; never do two of them speak."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at
        for one in replicas:
            one.ledger.completed()
            assert sum(one.ledger.speaker for one in replicas) <= 1
        replicas[0].wait()


def test_one_replica_speaks_and_the_others_show_nothing(replica: Callable[..., Replica]) -> None:
    """What the others commit is shown by the speaker."""
    one, other = replica(), replica()
    assert other.commit(purchases(3)) == [True] * 3
    assert one.ledger.speaker
    assert not other.ledger.speaker
    assert other.ledger.snapshots == {}
    assert one.snapshot().counted == 3


def test_the_lease_is_given_back_at_the_end(replica: Callable[..., Replica]) -> None:
    """The next one speaks as soon as it looks, and has read what the first one committed."""
    one, other = replica(), replica()
    one.commit(purchases(2))
    one.ledger.close()
    assert not one.ledger.speaker
    started = time.monotonic()
    other.until(lambda: other.ledger.speaker)
    assert time.monotonic() - started < LEASE_SECONDS - 1
    assert other.ledger.snapshots["orders"].counted == 2


def test_a_speaker_that_is_gone_is_followed_within_the_lease(replica: Callable[..., Replica]) -> None:
    """A speaker that stops renewing falls silent by itself before another one begins."""
    one, other = replica(), replica()
    one.commit(purchases(2))
    assert one.ledger.speaker
    started = time.monotonic()
    was_silent = []

    def follows() -> bool:
        if other.ledger.speaker:
            was_silent.append(not one.ledger.speaker)
        return other.ledger.speaker

    other.until(follows)  # nobody drives the first one
    assert all(was_silent)
    assert time.monotonic() - started < LEASE_SECONDS + 20
    assert other.ledger.snapshots["orders"].counted == 2
    assert not one.ledger.speaker
    assert one.ledger.snapshots == {}


def test_a_speaker_that_slept_is_silent_when_it_wakes_up(replica: Callable[..., Replica]) -> None:
    """The lease is counted on a clock that goes on while the machine sleeps, from before it was asked for."""
    slept_seconds = 0.0
    one = replica(boottime_clock=lambda: boottime() + slept_seconds)
    assert one.ledger.speaker
    slept_seconds = LEASE_SECONDS
    assert not one.ledger.speaker
    assert one.ledger.snapshots == {}
    one.until(lambda: one.ledger.speaker)


def test_a_speaker_without_a_connection_speaks_until_the_lease_ends(
    server: PostgresServer, url: str, replica: Callable[..., Replica]
) -> None:
    """A short outage is not seen in what is shown; a long one ends it."""
    proxy = Proxy(server.port)
    before, _, database = url.rpartition("/")
    one = replica(f"{before.rpartition(':')[0]}:{proxy.port}/{database}?sslmode=disable")
    one.commit(purchases(2))
    one.flush()
    proxy.close()
    one.until(lambda: one.ledger.problem is not None)
    assert one.ledger.speaker
    assert one.ledger.snapshots["orders"].counted == 2
    other = replica()
    drive([one, other], lambda: other.ledger.speaker)
    assert not one.ledger.speaker


def test_replicas_that_come_and_go_never_speak_together(replica: Callable[..., Replica]) -> None:
    """From one to five and back, each ended in turn: at every moment at most one speaks, and what it shows only grows."""
    replicas = [replica() for _ in range(5)]
    shown = 0
    while replicas:
        drive(replicas, lambda: any(one.ledger.speaker for one in replicas))
        replicas[-1].commit(purchases(1))
        (speaker,) = [one for one in replicas if one.ledger.speaker]
        counted = speaker.ledger.snapshots["orders"].counted
        assert counted >= shown
        shown = counted
        replicas.remove(speaker)
        speaker.ledger.close()
    assert shown >= 4
