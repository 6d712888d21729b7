"""What `/-/ready` says: one sentence that names what stands in the way."""

from __future__ import annotations

import pytest

from exporter.telemetry.readiness import (
    AT_ONCE,
    DELETES_TRIED_SECONDS,
    FAILING_SECONDS,
    ITERATION_LIMIT_SECONDS,
    SIGN_OF_LIFE_SECONDS,
    STUCK_SECONDS,
    QueueReadiness,
    Readiness,
    Status,
)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time that was set."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock."""
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> QueueReadiness:
    """Give a queue of which a receive has just succeeded."""
    queue = QueueReadiness(clock)
    queue.receive_succeeded(clock.now)
    return queue


def test_before_the_first_receive_it_is_not_ready(clock: Clock) -> None:
    """Nothing is known to work."""
    assert QueueReadiness(clock).why_not() == "no receive has succeeded yet"


def test_a_single_failure_is_not_worth_a_word_before_it_lasts(clock: Clock, queue: QueueReadiness) -> None:
    """One throttled call is nobody's business; calls that fail for five seconds are."""
    queue.receive_failed(clock.now, "throttled", "Rate exceeded.")
    assert queue.why_not() is None
    clock.now += FAILING_SECONDS
    queue.receive_failed(clock.now, "throttled", "Rate exceeded.")
    assert queue.why_not() == "receives fail (throttled): Rate exceeded."
    queue.receive_succeeded(clock.now)
    assert queue.why_not() is None


@pytest.mark.parametrize("reason", sorted(AT_ONCE))
def test_what_does_not_pass_by_itself_is_said_at_once(reason: str, clock: Clock, queue: QueueReadiness) -> None:
    """Somebody has to do something about it."""
    queue.receive_failed(clock.now, reason, "No.")
    assert queue.why_not() == f"receives fail ({reason}): No."


def test_silence_of_sqs_is_told_after_more_than_a_long_poll(clock: Clock, queue: QueueReadiness) -> None:
    """A long poll of 20 s and its 5 s of grace are no silence."""
    clock.now += SIGN_OF_LIFE_SECONDS - 1
    assert queue.why_not() is None
    clock.now += 1
    assert queue.why_not() == "SQS has not answered a receive for 28 s"


def test_silence_is_no_fault_of_sqs_while_nothing_is_asked(clock: Clock, queue: QueueReadiness) -> None:
    """Receives pause while too many deletes are unconfirmed."""
    clock.now += SIGN_OF_LIFE_SECONDS
    queue.receives_pause(clock.now)
    assert queue.why_not() is None


def test_failing_deletes_are_told_for_as_long_as_they_are_tried(clock: Clock, queue: QueueReadiness) -> None:
    """A minute after the last failure there is nothing left to delete."""
    queue.deletes_failed(clock.now, "server", "500.")
    clock.now += FAILING_SECONDS
    queue.deletes_failed(clock.now, "server", "500.")
    queue.receive_succeeded(clock.now)
    assert queue.why_not() == "deletes fail (server), so messages come back and are recognised: 500."
    clock.now += DELETES_TRIED_SECONDS
    queue.receive_succeeded(clock.now)
    assert queue.why_not() is None


def test_denied_deletes_are_told_until_one_succeeds(clock: Clock, queue: QueueReadiness) -> None:
    """They stop receives, so the sentence stays."""
    queue.deletes_failed(clock.now, "access_denied", "No.")
    clock.now += 10 * DELETES_TRIED_SECONDS
    assert queue.why_not() == ("SQS denies sqs:DeleteMessage, so no messages are taken: grant it on the queue (No.)")
    queue.receive_succeeded(clock.now)
    queue.deletes_succeeded()
    assert queue.why_not() is None


def test_of_several_obstacles_the_first_is_told(queue: QueueReadiness) -> None:
    """What came later is often its consequence."""
    queue.set("queue", "It does not exist.")
    queue.set("limited", "Memory is full.")
    assert queue.why_not() == "It does not exist."
    queue.clear("queue")
    assert queue.why_not() == "Memory is full."


def test_one_queue_of_several_that_fails_leaves_the_whole_ready(clock: Clock) -> None:
    """Its name stands in the sentence; only where all fail is the exporter not ready."""
    readiness = Readiness(clock)
    good, bad = readiness.add_queue("orders"), readiness.add_queue("returns")
    good.receive_succeeded(clock.now)
    bad.receive_failed(clock.now, "queue_not_found", "It does not exist.")
    status = readiness.status()
    assert status.ready
    assert status.sentence == ("Ready, but 1 of 2 queues: returns: receives fail (queue_not_found): It does not exist.")
    assert status.queues == {"orders": None, "returns": "receives fail (queue_not_found): It does not exist."}
    good.receive_failed(clock.now, "queue_not_found", "Neither does this one.")
    assert not readiness.status().ready


def test_what_concerns_the_ledger_concerns_every_queue(clock: Clock) -> None:
    """No queue is counted without it."""
    readiness = Readiness(clock)
    readiness.add_queue("orders").receive_succeeded(clock.now)
    readiness.set("ledger", "The disk is full.")
    status = readiness.status()
    assert (status.ready, status.sentence) == (False, "The disk is full.")
    assert status.queues == {"orders": "The disk is full."}


def test_a_commit_that_takes_long_is_named_and_sqs_is_not_blamed(clock: Clock) -> None:
    """A frozen disk stops the loop, so that no receive succeeds either."""
    began = clock.now
    readiness = Readiness(clock, commit_started_at=lambda: began)
    readiness.add_queue("orders").receive_succeeded(clock.now)
    clock.now += STUCK_SECONDS - 1
    assert readiness.status().ready
    clock.now += SIGN_OF_LIFE_SECONDS
    assert readiness.status().sentence == (
        "the ledger's commit has been under way for 32 s: look at the ledger's volume, or its database server"
    )


def test_a_loop_that_stands_still_is_named_and_sqs_is_not_blamed(clock: Clock) -> None:
    """Whatever holds it up, it is not SQS; after a minute the process is not healthy."""
    readiness = Readiness(clock)
    readiness.add_queue("orders").receive_succeeded(clock.now)
    clock.now += SIGN_OF_LIFE_SECONDS
    assert readiness.status().sentence == "the loop has been busy with one iteration for 28 s"
    assert readiness.healthy()
    clock.now += ITERATION_LIMIT_SECONDS
    assert not readiness.healthy()
    readiness.iterated(clock.now)
    assert readiness.healthy()


def test_after_a_loop_that_stood_still_sqs_is_not_blamed_either(clock: Clock) -> None:
    """While a volume was frozen, or the process stopped, nobody listened: SQS's silence begins after that."""
    readiness = Readiness(clock)
    readiness.add_queue("orders").receive_succeeded(clock.now)
    clock.now += SIGN_OF_LIFE_SECONDS
    readiness.iterated(clock.now)
    assert readiness.status().ready
    clock.now += SIGN_OF_LIFE_SECONDS
    assert readiness.status().sentence == "the loop has been busy with one iteration for 28 s"


def test_what_keeps_nothing_from_being_counted_is_said_beside(clock: Clock) -> None:
    """A reader of stderr who does not read costs log lines, no counts: it is ready, and says so."""
    readiness = Readiness(clock, notes=lambda: ["nobody has read stderr for 9 s"])
    queue = readiness.add_queue("orders")
    queue.receive_succeeded(clock.now)
    assert readiness.status().ready
    assert readiness.status().sentence == "Ready, but nobody has read stderr for 9 s"
    queue.set("queue", "It does not exist.")
    assert readiness.status().sentence == "It does not exist.; nobody has read stderr for 9 s"


def test_without_any_queue_it_is_not_ready(clock: Clock) -> None:
    """A prefix under which nothing is found counts nothing."""
    assert Readiness(clock).status().sentence == "no queue is found yet"
    beside = Readiness(clock, notes=lambda: ["nobody has read stderr for 9 s"])
    assert beside.status().sentence == "no queue is found yet; nobody has read stderr for 9 s"


def test_a_queue_that_is_gone_is_no_fault(clock: Clock) -> None:
    """Whoever deletes a queue of a prefix means to: the others are ready, and it is told apart from them."""
    readiness = Readiness(clock)
    for name in ("shop-a", "shop-b"):
        readiness.add_queue(name).receive_succeeded(clock.now)
    gone = readiness.add_queue("shop-c")
    gone.gone = True
    assert readiness.status() == Status(
        ready=True, sentence="Ready.", queues={"shop-a": None, "shop-b": None}, gone=("shop-c",)
    )


def test_when_every_queue_is_gone_it_is_not_ready(clock: Clock) -> None:
    """Nothing is counted any more."""
    readiness = Readiness(clock)
    readiness.add_queue("shop-a").gone = True
    assert readiness.status() == Status(ready=False, sentence="every queue is gone", gone=("shop-a",))


def test_why_a_prefix_finds_nothing_is_said(clock: Clock) -> None:
    """Alone it is not ready, beside a queue that works it is, and says so in either case."""
    readiness = Readiness(clock, prefix_problems=lambda: {"shop-*": ValueError("grant sqs:ListQueues")})
    assert readiness.status() == Status(ready=False, sentence="shop-*: grant sqs:ListQueues")
    readiness.add_queue("orders").receive_succeeded(clock.now)
    assert readiness.status() == Status(
        ready=True, sentence="Ready, but shop-*: grant sqs:ListQueues", queues={"orders": None}
    )
