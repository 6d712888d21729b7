"""One replica speaks: the lease, who takes it over and when, and that nobody else shows what the ledger keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from postgres_replica import Proxy, Replica, purchases

from exporter.ledger.postgres.speaker import LEASE_SECONDS, boottime

if TYPE_CHECKING:
    from collections.abc import Callable

    from postgres_server import PostgresServer


def speaks(one: Replica) -> bool:
    """Tell whether a replica is the speaker, anew each time."""
    return one.ledger.speaker


def drive(replicas: list[Replica], condition: Callable[[], bool], seconds: float = 60) -> None:
    """Drive several replicas until the condition holds; never do two of them speak."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at
        for one in replicas:
            one.ledger.completed()
            assert sum(one.ledger.speaker for one in replicas) <= 1
        replicas[0].wait()


def test_one_replica_speaks_and_the_others_show_nothing(open_replica: Callable[..., Replica]) -> None:
    """What the others commit is shown by the speaker."""
    one, other = open_replica(), open_replica()
    assert other.commit(purchases(3)) == [True] * 3
    assert speaks(one)
    assert not speaks(other)
    assert other.ledger.snapshots == {}
    assert one.snapshot().counted == 3


def test_the_lease_is_given_back_at_the_end(open_replica: Callable[..., Replica]) -> None:
    """The next one speaks as soon as it looks, and has read what the first one committed."""
    one, other = open_replica(), open_replica()
    one.commit(purchases(2))
    one.ledger.close()
    assert not speaks(one)
    started = time.monotonic()
    other.until(lambda: other.ledger.speaker)
    assert time.monotonic() - started < LEASE_SECONDS - 1
    assert other.ledger.snapshots["orders"].counted == 2


def test_a_speaker_that_is_gone_is_followed_within_the_lease(open_replica: Callable[..., Replica]) -> None:
    """A speaker that stops renewing falls silent by itself before another one begins."""
    one, other = open_replica(), open_replica()
    one.commit(purchases(2))
    assert speaks(one)
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
    assert not speaks(one)
    assert one.ledger.snapshots == {}


def test_a_speaker_that_slept_is_silent_when_it_wakes_up(open_replica: Callable[..., Replica]) -> None:
    """The lease is counted on a clock that goes on while the machine sleeps, from before it was asked for."""
    slept_seconds = 0.0
    one = open_replica(boottime_clock=lambda: boottime() + slept_seconds)
    assert speaks(one)
    slept_seconds = LEASE_SECONDS
    assert not speaks(one)
    assert one.ledger.snapshots == {}
    one.until(lambda: one.ledger.speaker)


def test_a_speaker_without_a_connection_speaks_until_the_lease_ends(
    postgres: PostgresServer, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """A short outage is not seen in what is shown; a long one ends it."""
    proxy = Proxy(postgres.port)
    before, _, database = database_url.rpartition("/")
    one = open_replica(f"{before.rpartition(':')[0]}:{proxy.port}/{database}?sslmode=disable")
    one.commit(purchases(2))
    one.flush()
    proxy.close()
    one.until(lambda: one.ledger.problem is not None)
    assert speaks(one)
    assert one.ledger.snapshots["orders"].counted == 2
    other = open_replica()
    drive([one, other], lambda: other.ledger.speaker)
    assert not speaks(one)


def test_replicas_that_come_and_go_never_speak_together(open_replica: Callable[..., Replica]) -> None:
    """Five that are ended one after the other: at every moment at most one speaks, and what is shown only grows."""
    replicas = [open_replica() for _ in range(5)]
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
