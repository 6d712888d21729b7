"""The web server's pace: how much of the time it takes from the consumer, and when it asks clients to wait."""

from __future__ import annotations

import os
import selectors
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter.web.pacing import (
    BURST_SECONDS,
    EVENTS_AT_ONCE,
    LONGEST_REST_SECONDS,
    POLL_SECONDS,
    SHARE,
    Pace,
    PacedSelector,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeThread:
    """A thread that works and rests, and the clock that it looks at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0
        self.pace = Pace()
        self.pace.begin(self.now)

    def monotonic(self) -> float:
        """Look at the clock."""
        return self.now

    def work(self, seconds: float) -> None:
        """Work for so long."""
        self.worked += seconds
        self.now += seconds

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def rest_as_due(self) -> float:
        """Rest as the pace says, and begin to work again; returns for how long."""
        seconds = self.pace.rest_seconds(self.now)
        self.idle(seconds)
        return seconds

    def idle(self, seconds: float) -> None:
        """Have no work for so long."""
        self.pace.rest_seconds(self.now)
        self.rest(seconds)
        self.pace.begin(self.now)


@contextmanager
def readable_pipes(count: int) -> Iterator[list[int]]:
    """Open pipes with something to read in them; gives their descriptors."""
    pairs = [os.pipe() for _ in range(count)]
    for _, writer in pairs:
        os.write(writer, b"x")
    yield [reader for reader, _ in pairs]
    for pair in pairs:
        for descriptor in pair:
            os.close(descriptor)


def test_a_thread_that_always_has_work_gets_its_share() -> None:
    """Never more in the long run, however much there is to do."""
    thread = FakeThread()
    thread.work(BURST_SECONDS)
    began_at, worked = thread.now, thread.worked
    for _ in range(2000):
        thread.work(0.002)
        thread.rest_as_due()
    assert (thread.worked - worked) / (thread.now - began_at) == pytest.approx(SHARE, rel=0.05)


def test_an_ordinary_scrape_never_rests() -> None:
    """Ten scrapes a second of 10 ms each stay below the share, and the server is not busy."""
    thread = FakeThread()
    for _ in range(100):
        thread.work(0.01)
        assert thread.rest_as_due() == 0
        assert not thread.pace.busy
        thread.idle(0.09)


def test_it_is_busy_before_it_has_to_rest() -> None:
    """So those who can wait do, and the others are served at once."""
    thread = FakeThread()
    thread.work(0.6 * BURST_SECONDS / (1 - SHARE))
    assert thread.rest_as_due() == 0
    assert thread.pace.busy
    thread.idle(BURST_SECONDS / SHARE)
    thread.rest_as_due()
    assert not thread.pace.busy


def test_idle_time_is_not_saved_up() -> None:
    """After an hour without work a burst is as short as ever."""
    thread = FakeThread()
    thread.idle(3600)
    assert thread.rest_as_due() == 0
    thread.work((BURST_SECONDS + 0.001) / (1 - SHARE))
    assert 0 < thread.rest_as_due() < LONGEST_REST_SECONDS


def test_rests_are_short_and_come_to_an_end() -> None:
    """Even where the process was stopped for an hour in the midst of its work."""
    thread = FakeThread()
    thread.work(3600)
    rests = []
    while (seconds := thread.rest_as_due()) > 1e-9:  # less than that, which rounding leaves, does not move the clock
        rests.append(seconds)
    assert max(rests) == LONGEST_REST_SECONDS
    assert sum(rests) == pytest.approx(BURST_SECONDS / SHARE)


def test_a_server_that_ends_rests_no_more() -> None:
    """However much it has worked: it has half a second for closing all connections."""
    thread = FakeThread()
    thread.work(3600)
    assert thread.rest_as_due() > 0
    thread.pace.hurry()
    thread.work(1)
    assert thread.rest_as_due() == 0


def test_of_many_ready_connections_each_has_its_turn() -> None:
    """A selection is short, and no connection is left out for long."""
    thread = FakeThread()
    with (
        readable_pipes(100) as readers,
        PacedSelector(thread.pace, monotonic=thread.monotonic, sleep=thread.rest) as selector,
    ):
        for reader in readers:
            selector.register(reader, selectors.EVENT_READ)
        seen: list[int] = []
        for _ in range(7):
            thread.rest(POLL_SECONDS)
            events = selector.select(0)
            assert len(events) <= EVENTS_AT_ONCE
            seen += [key.fd for key, _ in events]
        assert set(seen) == set(readers)


def test_what_is_listened_on_goes_before_all_connections() -> None:
    """A newcomer does not wait until all the others had their turn."""
    thread = FakeThread()
    with readable_pipes(100) as readers:
        listener = readers[70]
        with PacedSelector(thread.pace, first={listener}, monotonic=thread.monotonic, sleep=thread.rest) as selector:
            for reader in readers:
                selector.register(reader, selectors.EVENT_READ)
            seen: list[int] = []
            for _ in range(7):
                thread.rest(POLL_SECONDS)
                first, *others = [key.fd for key, _ in selector.select(0)]
                assert first == listener
                seen += others
            assert set(seen) == set(readers) - {listener}


def test_other_work_is_not_interrupted_by_a_look_at_the_connections_each_time() -> None:
    """While there is work to do the connections are looked at once a millisecond; without any they are at once."""
    thread = FakeThread()
    with (
        readable_pipes(1) as readers,
        PacedSelector(thread.pace, monotonic=thread.monotonic, sleep=thread.rest) as selector,
    ):
        thread.rest(1)
        assert selector.select(0) == []
        selector.register(readers[0], selectors.EVENT_READ)
        assert selector.select(0) == []
        assert len(selector.select(1)) == 1
        assert selector.select(0) == []
        thread.rest(POLL_SECONDS)
        assert len(selector.select(0)) == 1
