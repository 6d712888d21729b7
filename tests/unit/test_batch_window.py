"""Few requests are nearly empty, whatever the rate, and nothing urgent waits: on the times of a simulated SQS."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import pytest

from exporter.consumer.batch_window import BatchWindow
from exporter.consumer.pacing import Pacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_RECEIVES = 16
VISIBILITY_TIMEOUT_SECONDS = 30
LONG_POLL_SECONDS = 20
LOOP_SECONDS = 0.0003
"""What the loop spends on an answer before it sends the next receive."""


@dataclass(frozen=True)
class Cost:
    """What a simulated stream came to."""

    requests_a_message: float
    mean_wait_seconds: float
    longest_wait_seconds: float


class Stream:
    """One queue and one exporter on simulated time: long polls as SQS has them, ten messages a receive and a delete."""

    def __init__(
        self, arrivals: Iterator[float], *, window_seconds: float = 1.0, round_trip_seconds: float = 0.01
    ) -> None:
        self._window = BatchWindow(window_seconds)
        self._pacing = Pacing(MAX_RECEIVES, self._window)
        self._half_trip_seconds = round_trip_seconds / 2
        self._arrivals = arrivals
        self._queue: deque[float] = deque()
        self._polls: deque[tuple[float, float]] = deque()  # when it was sent, when it gives up
        self._undeleted: deque[float] = deque()
        self._events: list[tuple[float, int, Callable[..., None], tuple[float, ...]]] = []
        self._numbers = count()
        self.now = 0.0
        self.in_flight = 0
        self.requests: list[float] = []
        self.waits: list[tuple[float, float]] = []

    def run(self, until: float) -> None:
        """Let so much time pass."""
        self._at(self.now, self._act)
        self._next_arrival()
        while self._events and self._events[0][0] <= until:
            self.now, _, do, arguments = heapq.heappop(self._events)
            do(*arguments)

    def cost(self, since: float) -> Cost:
        """Return what the messages since then cost."""
        waits = [seconds for at, seconds in self.waits if at >= since]
        requests = sum(at >= since for at in self.requests)
        return Cost(requests / len(waits), sum(waits) / len(waits), max(waits))

    def _at(self, when: float, do: Callable[..., None], *arguments: float) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do, arguments))

    def _next_arrival(self) -> None:
        when = next(self._arrivals, None)
        if when is not None:
            self._at(when, self._arrive)

    def _arrive(self) -> None:
        self._queue.append(self.now)
        self._next_arrival()
        self._serve()

    def _receive(self, sent_at: float) -> None:
        self._polls.append((sent_at, self.now + LONG_POLL_SECONDS))
        self._at(self.now + LONG_POLL_SECONDS, self._serve)
        self._serve()

    def _serve(self) -> None:
        while self._polls and (self._queue or self._polls[0][1] <= self.now):
            sent_at, _ = self._polls.popleft()
            messages = min(10, len(self._queue))
            self.waits += [(self.now, self.now - self._queue.popleft()) for _ in range(messages)]
            self._at(self.now + self._half_trip_seconds, self._answer, messages, sent_at)

    def _answer(self, messages: int, sent_at: float) -> None:
        self.in_flight -= 1
        self._pacing.answered(messages, sent_at, self.now)
        self._undeleted.extend([self.now] * messages)
        self._at(self.now + LOOP_SECONDS, self._act)

    def _act(self) -> None:
        """Do what is due, as the loop does, and wake up for what is due next."""
        while self._undeleted and self._deletes_due_at() <= self.now:
            self.requests.append(self.now)
            for _ in range(min(10, len(self._undeleted))):
                self._undeleted.popleft()
        for _ in range(self._pacing.wanted(self.in_flight, self.now)):
            self.in_flight += 1
            self.requests.append(self.now)
            self._at(self.now + self._half_trip_seconds, self._receive, self.now)
        next_at = min(self._pacing.due_at(self.in_flight), self._deletes_due_at() if self._undeleted else math.inf)
        if next_at < math.inf:
            self._at(next_at, self._act)

    def _deletes_due_at(self) -> float:
        return self._window.deletes_due_at(len(self._undeleted), self._undeleted[0], VISIBILITY_TIMEOUT_SECONDS)


def evenly(*stretches: tuple[float, float]) -> Iterator[float]:
    """Yield when messages arrive: so many a second for so many seconds, one stretch after the other."""
    began = 0.0
    for per_second, seconds in stretches:
        yield from (began + (number + 0.5) / per_second for number in range(round(per_second * seconds)))
        began += seconds


def by_poisson(*stretches: tuple[float, float]) -> Iterator[float]:
    """Yield the same, where they arrive independently of each other."""
    random = Random(1)  # noqa: S311 - a sample, no secret
    began = 0.0
    for per_second, seconds in stretches:
        when = began + random.expovariate(per_second)
        while when < began + seconds:
            yield when
            when += random.expovariate(per_second)
        began += seconds


@pytest.mark.parametrize("arriving", [evenly, by_poisson])
@pytest.mark.parametrize(
    ("per_second", "requests_a_message", "mean_wait_seconds"),
    [
        (1, 1.3, 0.7),
        (3, 0.5, 0.7),
        (10, 0.3, 0.7),
        (30, 0.27, 0.4),
        (100, 0.24, 0.2),
        (300, 0.23, 0.1),
        (1_000, 0.22, 0.05),
        (3_000, 0.22, 0.05),
    ],
)
def test_a_steady_stream_costs_few_requests(
    arriving: Callable[..., Iterator[float]], per_second: float, requests_a_message: float, mean_wait_seconds: float
) -> None:
    """Both kinds of arrival cost little more than the floor of 0.2 requests a message, and wait little."""
    seconds = max(15, min(300, 3_000 / per_second))
    stream = Stream(arriving((per_second, seconds)))
    stream.run(seconds)
    cost = stream.cost(since=5)
    assert cost.requests_a_message <= requests_a_message
    assert cost.mean_wait_seconds <= mean_wait_seconds


@pytest.mark.parametrize("round_trip_seconds", [0.001, 0.03, 0.1])
def test_a_stream_costs_few_requests_however_far_sqs_is(round_trip_seconds: float) -> None:
    """The round trip belongs to the time in which messages gather."""
    stream = Stream(by_poisson((100, 60)), round_trip_seconds=round_trip_seconds)
    stream.run(60)
    cost = stream.cost(since=5)
    assert cost.requests_a_message <= 0.24
    assert cost.mean_wait_seconds <= 0.2


def test_a_rate_that_changes_tenfold_is_followed() -> None:
    """Up and down between 10 and 1,000 a second: no message waits two windows, and requests stay few."""
    stream = Stream(by_poisson((10, 5), (100, 2), (1_000, 5), (100, 5), (1_000, 1), (100, 5), (10, 5), (1_000, 5)))
    stream.run(40)
    cost = stream.cost(since=0)
    assert cost.requests_a_message <= 0.24
    assert cost.longest_wait_seconds <= 1.5


@pytest.mark.parametrize("messages", [50, 1_000, 20_000])
def test_a_burst_is_met_soon_after_the_window(messages: int) -> None:
    """A burst on a quiet queue waits one window, a few short waits more, and is then taken as fast as ever."""
    stream = Stream(iter([10.0] * messages))
    stream.run(60)
    unhindered = Stream(iter([10.0] * messages), window_seconds=0)
    unhindered.run(60)
    later_seconds = stream.cost(since=0).longest_wait_seconds - unhindered.cost(since=0).longest_wait_seconds
    assert later_seconds <= 1.4


def test_the_first_message_of_a_quiet_queue_does_not_wait() -> None:
    """One message a minute is met by the open long poll, each time."""
    stream = Stream(evenly((1 / 60, 3_600)))
    stream.run(3_600)
    assert stream.cost(since=0).longest_wait_seconds == 0
    assert len(stream.requests) <= 3_600 / LONG_POLL_SECONDS + 60 + 2


def test_a_backlog_never_waits_and_widens_at_once() -> None:
    """Full answers from the start: nothing is ever due later, and all receives are in flight after as many answers."""
    pacing = Pacing(MAX_RECEIVES, BatchWindow(1.0))
    for number in range(MAX_RECEIVES):
        assert pacing.due_at(0) == -math.inf
        pacing.answered(10, number, number + 0.01)
    assert pacing.wanted(0, MAX_RECEIVES) == MAX_RECEIVES


def test_after_a_few_messages_the_next_receive_waits_one_window_at_most() -> None:
    """Nothing is known of the rate yet, or it is low: a window it is, counted from when SQS was asked."""
    pacing = Pacing(MAX_RECEIVES, BatchWindow(1.0))
    pacing.answered(1, 0.0, 0.01)
    assert pacing.due_at(0) == pytest.approx(1.0)
    assert pacing.wanted(0, 0.9) == 0
    assert pacing.wanted(0, 1.01) == 1
    pacing.answered(2, 1.01, 1.02)
    assert pacing.due_at(0) == pytest.approx(2.01)


def test_while_a_long_poll_is_open_no_other_receive_is_sent() -> None:
    """The one in flight has found nothing: a second one would share what comes."""
    pacing = Pacing(MAX_RECEIVES, BatchWindow(1.0))
    pacing.answered(1, 0.0, 0.01)
    assert pacing.due_at(1) == math.inf
    assert pacing.wanted(1, 5.0) == 0


def test_a_receive_that_hangs_does_not_hold_up_a_fast_stream() -> None:
    """At 1,000 a second several receives are sent together: where one is never answered, the others go on."""
    pacing = Pacing(MAX_RECEIVES, BatchWindow(1.0))
    for number in range(100):
        pacing.answered(9, number * 0.009 - 0.005, number * 0.009)
    due_at = pacing.due_at(1)
    assert due_at <= 100 * 0.009 + 0.05
    assert pacing.wanted(1, due_at) == pacing.wanted(0, due_at) - 1 > 0


def test_a_failure_waits_for_its_backoff_and_not_for_a_full_batch() -> None:
    """After a failed receive the next is due when the backoff says so, and one alone."""
    pacing = Pacing(MAX_RECEIVES, BatchWindow(1.0))
    pacing.failed(100.0)
    assert 100.0 < pacing.due_at(0) <= 110.0
    assert pacing.wanted(0, 111.0) == 1


def test_a_failure_of_a_fast_stream_is_followed_by_one_receive_alone() -> None:
    """Where several were sent together, SQS that throttles or fails is not asked by all of them again."""
    pacing = Pacing(MAX_RECEIVES, BatchWindow(1.0))
    for number in range(100):
        pacing.answered(9, number * 0.009 - 0.005, number * 0.009)
    assert pacing.wanted(0, 2.0) > 1
    pacing.failed(2.0)
    assert pacing.wanted(0, 13.0) == 1


def test_receives_that_find_nothing_are_a_second_apart() -> None:
    """Even with `--sqs.wait 0`, and whatever the window."""
    for window_seconds in (0.0, 1.0):
        pacing = Pacing(MAX_RECEIVES, BatchWindow(window_seconds))
        pacing.answered(0, 5.0, 5.01)
        assert pacing.due_at(0) == 6.0


@pytest.mark.parametrize("messages", [[1], [1, 3, 9, 1], [10, 10, 1], [0, 2]])
def test_with_a_window_of_zero_nothing_waits(messages: Sequence[int]) -> None:
    """Neither receives nor deletes, as before there was a window."""
    window = BatchWindow(0.0)
    for number, some in enumerate(messages):
        window.answered(some, number, number + 0.01)
        assert window.receives == 0
        assert window.receives_due_at == -math.inf
    assert window.deletes_due_at(1, 5.0, VISIBILITY_TIMEOUT_SECONDS) == -math.inf


def test_nothing_waits_once_the_program_is_stopping() -> None:
    """What waited before is due at once."""
    window = BatchWindow(1.0)
    window.answered(1, 0.0, 0.01)
    window.end()
    assert window.receives_due_at == -math.inf
    assert window.deletes_due_at(1, 0.01, VISIBILITY_TIMEOUT_SECONDS) == -math.inf


@pytest.mark.parametrize(
    ("waiting", "visibility_timeout_seconds", "fifo", "due_at"),
    [
        (9, 30, False, 105.0),
        (9, 43_200, False, 105.0),
        (9, 10, False, 102.5),
        (9, 0, False, -math.inf),
        (10, 30, False, -math.inf),
        (1, 30, True, -math.inf),
    ],
)
def test_deletes_gather_to_ten_for_a_while(
    waiting: int,
    visibility_timeout_seconds: int,
    fifo: bool,  # noqa: FBT001 - a parameter of the test
    due_at: float,
) -> None:
    """Five windows, but a quarter of the visibility timeout at most; never ten, never those of a FIFO queue."""
    window = BatchWindow(1.0)
    assert window.deletes_due_at(waiting, 100.0, visibility_timeout_seconds, fifo=fifo) == due_at


def test_ten_deletes_go_with_the_next_receives() -> None:
    """Both are sent in one iteration, no later than the deadline of fewer, and at once where no receive waits."""
    window = BatchWindow(1.0)
    window.answered(9, 99.99, 100.0)
    assert window.receives_due_at == pytest.approx(100.99)
    assert window.deletes_due_at(10, 100.0, VISIBILITY_TIMEOUT_SECONDS) == window.receives_due_at
    assert window.deletes_due_at(10, 100.0, 2) == 100.5
    window.answered(0, 101.0, 121.0)
    assert window.deletes_due_at(10, 121.0, VISIBILITY_TIMEOUT_SECONDS) == -math.inf


def test_a_backlog_of_which_sqs_gives_less_than_ten_at_a_time_does_not_wait() -> None:
    """SQS may ask only some of its servers: messages that were there before, and were not given, say so."""
    window = BatchWindow(1.0)
    window.answered(5, 0.0, 0.01, oldest_seconds=60.0)
    assert window.receives
    window.answered(5, 1.0, 1.01, oldest_seconds=61.0)
    assert not window.receives
    window.answered(5, 1.02, 1.03, oldest_seconds=61.0)
    assert not window.receives
    window.answered(5, 1.03, 1.04, oldest_seconds=0.5)
    assert window.receives
