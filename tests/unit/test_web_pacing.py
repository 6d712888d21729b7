"""The web server's pace: how much of the processor it takes from the consumer, and when it asks clients to wait."""

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
    Look,
    Pace,
    PacedSelector,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeThread:
    """The clocks as seen from a thread that works and rests."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0

    def look(self) -> Look:
        """Look at them."""
        return Look(self.now, self.cpu)

    def work(self, seconds: float) -> None:
        """Take the processor for so long."""
        self.cpu += seconds
        self.now += seconds

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


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


@pytest.mark.parametrize("waits_seconds", [0.0, 0.002])
def test_a_thread_that_always_has_work_gets_its_share(waits_seconds: float) -> None:
    """Never more in the long run, however much there is to do, and whoever else keeps it from the processors."""
    thread, pace = FakeThread(), Pace()
    pace.rest_seconds(thread.look())
    thread.work(BURST_SECONDS)
    before = thread.look()
    for _ in range(2000):
        thread.rest(pace.rest_seconds(thread.look()))
        thread.work(0.002)
        thread.rest(waits_seconds)
    assert (thread.cpu - before.cpu) / (thread.now - before.now) == pytest.approx(SHARE, rel=0.05)


def test_an_ordinary_scrape_never_rests() -> None:
    """Ten scrapes a second of 2 ms each stay below the share, and the server is not busy."""
    thread, pace = FakeThread(), Pace()
    for _ in range(100):
        assert pace.rest_seconds(thread.look()) == 0
        thread.work(0.002)
        assert pace.rest_seconds(thread.look()) == 0
        assert not pace.busy
        thread.rest(0.098)


def test_it_is_busy_before_it_has_to_rest() -> None:
    """So those who can wait do, and the others are served at once."""
    thread, pace = FakeThread(), Pace()
    pace.rest_seconds(thread.look())
    thread.work(0.6 * BURST_SECONDS / (1 - SHARE))
    assert pace.rest_seconds(thread.look()) == 0
    assert pace.busy
    thread.rest(BURST_SECONDS / SHARE)
    pace.rest_seconds(thread.look())
    assert not pace.busy


def test_rests_are_short_and_idle_time_is_not_saved_up() -> None:
    """After an hour without work a burst is as short as ever, and after a long step the rest has an end."""
    thread, pace = FakeThread(), Pace()
    pace.rest_seconds(thread.look())
    thread.rest(3600)
    assert pace.rest_seconds(thread.look()) == 0
    thread.work((BURST_SECONDS + 0.001) / (1 - SHARE))
    assert 0 < pace.rest_seconds(thread.look()) < LONGEST_REST_SECONDS
    thread.work(1)
    assert pace.rest_seconds(thread.look()) == LONGEST_REST_SECONDS


def test_of_many_ready_connections_each_has_its_turn() -> None:
    """A selection is short, and no connection is left out for long."""
    thread = FakeThread()
    with readable_pipes(100) as readers, PacedSelector(Pace(), look=thread.look, sleep=thread.rest) as selector:
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
        with PacedSelector(Pace(), first={listener}, look=thread.look, sleep=thread.rest) as selector:
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
    with readable_pipes(1) as readers, PacedSelector(Pace(), look=thread.look, sleep=thread.rest) as selector:
        thread.rest(1)
        assert selector.select(0) == []
        selector.register(readers[0], selectors.EVENT_READ)
        assert selector.select(0) == []
        assert len(selector.select(1)) == 1
        assert selector.select(0) == []
        thread.rest(POLL_SECONDS)
        assert len(selector.select(0)) == 1
