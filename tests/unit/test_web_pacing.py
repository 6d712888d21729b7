"""The web server's pace: how much of the processor it takes from a busy consumer, and from an idle one."""

from __future__ import annotations

import os
import selectors

import pytest

from exporter.web.pacing import BURST_SECONDS, EVENTS_AT_ONCE, LONGEST_REST_SECONDS, SHARE, Look, Pace, PacedSelector


class FakeThread:
    """The clocks as seen from a thread that works and rests, beside others that take `others` of a core."""

    def __init__(self, others: float) -> None:
        self.others = others
        self.now = self.own = self.all = 0.0

    def look(self) -> Look:
        """Look at them."""
        return Look(self.now, self.own, self.all)

    def work(self, seconds: float) -> None:
        """Take the processor for so long."""
        self.own += seconds
        self.all += seconds
        self.rest(seconds)

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.all += seconds * self.others


@pytest.mark.parametrize(("others", "share"), [(0.9, SHARE), (0.65, SHARE), (0.3, 0.6), (0.0, 0.9)])
def test_a_thread_that_always_has_work_gets_its_share_and_what_others_leave(others: float, share: float) -> None:
    """Beside a busy consumer it is a quarter of a core, and more where the consumer has little to do."""
    thread, pace = FakeThread(others), Pace()
    for _ in range(2000):
        thread.rest(pace.rest_seconds(thread.look()))
        thread.work(0.002)
    assert thread.own / thread.now == pytest.approx(share, rel=0.05)


def test_an_ordinary_scrape_never_rests() -> None:
    """Ten scrapes a second of 2 ms each stay below the share."""
    thread, pace = FakeThread(0.9), Pace()
    for _ in range(100):
        assert pace.rest_seconds(thread.look()) == 0
        thread.work(0.002)
        assert pace.rest_seconds(thread.look()) == 0
        thread.rest(0.098)


def test_rests_are_short_and_idle_time_is_not_saved_up() -> None:
    """After an hour without work a burst is as short as ever, and after a long step the rest has an end."""
    thread, pace = FakeThread(0.9), Pace()
    pace.rest_seconds(thread.look())
    thread.rest(3600)
    assert pace.rest_seconds(thread.look()) == 0
    thread.work(1.5 * BURST_SECONDS)
    assert 0 < pace.rest_seconds(thread.look()) < LONGEST_REST_SECONDS
    thread.work(1)
    assert pace.rest_seconds(thread.look()) == LONGEST_REST_SECONDS


def test_of_many_ready_connections_each_has_its_turn() -> None:
    """A selection is short, and no connection is left out for long."""
    pairs = [os.pipe() for _ in range(100)]
    thread = FakeThread(0.0)
    with PacedSelector(thread.look, thread.rest) as selector:
        for reader, writer in pairs:
            os.write(writer, b"x")
            selector.register(reader, selectors.EVENT_READ)
        seen: list[int] = []
        for _ in range(7):
            events = selector.select(0)
            assert len(events) <= EVENTS_AT_ONCE
            seen += [key.fd for key, _ in events]
    assert set(seen) == {reader for reader, _ in pairs}
    for reader, writer in pairs:
        os.close(reader)
        os.close(writer)
