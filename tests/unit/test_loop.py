"""Every decision of an iteration: what is taken in, submitted, deleted and received, and when it all ends."""

from __future__ import annotations

import itertools

import pytest
from consumer_parts import WALL_SECONDS, House, ids_of

from exporter.consumer.loop import (
    COMMIT_MESSAGES,
    COMMIT_WAIT_SECONDS,
    DELETE_GRACE_SECONDS,
    ITERATION_SECONDS,
    MAX_GATHERED_MESSAGES,
)
from exporter.consumer.queue import FIRST_WAIT_SECONDS
from exporter.consumer.quota import MAX_IN_FLIGHT
from exporter.errors import ExporterError, LedgerError, WrongSettingError
from exporter.sqs import QueueDepth
from exporter.telemetry.readiness import STUCK_SECONDS

NO_EVENT = b"not an event"
DEAD_LETTERS = "arn:aws:sqs:eu-west-1:1:orders-dlq"


# Wait, submit, delete, receive


def test_nothing_is_received_before_the_ledger_has_taken_the_queue_up() -> None:
    """What arrived then could not be recorded."""
    house = House()
    house.ledger.refused["orders"] = LedgerError("other_queue", "It is another queue's.")
    house.housekeeping.publish("orders", named=False)
    house.run()
    assert house.sqs.receives == []
    del house.ledger.refused["orders"]
    house.run()
    assert len(house.sqs.receives) == 1
    house.clock.now += 1.0
    house.sqs.answer_receive("orders")
    house.run()
    assert house.readiness.status().sentence == "Ready."


def test_a_message_is_committed_before_it_is_deleted() -> None:
    """The order that the promise rests on, within one iteration."""
    house = House().with_queue()
    house.sqs.answer_receive("orders", "a", "b")
    house.run()
    assert house.ledger.counted["orders"] == 2
    (delete,) = house.sqs.deletes
    assert [deletion.message_id for deletion in delete.deletions] == ids_of("a", "b")


def test_a_confirmed_delete_settles_its_messages() -> None:
    """The ledger may forget them once the window is over."""
    house = House().with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.confirm_delete("orders")
    house.run()
    assert house.ledger.settled["orders"] == ids_of("a")


def test_a_delete_that_is_confirmed_after_its_handle_was_over_settles_nothing() -> None:
    """A handle is valid for the visibility timeout from when its receive was sent, not from when it was answered."""
    house = House().with_queue(visibility_timeout_seconds=30)
    house.clock.now += 20
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.clock.now += 10
    house.sqs.confirm_delete("orders")
    house.run()
    assert house.ledger.settled["orders"] == []


def test_a_handle_is_trusted_for_the_timeout_that_its_receive_asked_for() -> None:
    """The queue's timeout may have been changed meanwhile."""
    house = House().with_queue(visibility_timeout_seconds=30)
    house.housekeeping.publish("orders", visibility_timeout_seconds=600)
    house.clock.now += 5
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.clock.now += 26
    house.sqs.confirm_delete("orders")
    house.run()
    assert house.ledger.settled["orders"] == []


def test_a_message_whose_delete_failed_is_deleted_again() -> None:
    """Its handle still lives."""
    house = House().with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.fail_delete("orders", "server")
    house.run()
    assert house.sqs.deletes == []
    house.run(after_seconds=1.0)
    assert len(house.sqs.deletes) == 1


def test_deletes_gather_to_ten_for_the_batch_window() -> None:
    """SQS bills each call: three deletes wait for others."""
    house = House(batch_window_seconds=1.0).with_queue()
    house.sqs.answer_receive("orders", "a", "b", "c")
    house.run()
    assert house.sqs.deletes == []
    house.run(after_seconds=5.0)
    assert [len(delete.deletions) for delete in house.sqs.deletes] == [3]


def test_deletes_wait_no_longer_than_a_quarter_of_the_visibility_timeout() -> None:
    """Else the handle could be over before the delete is answered."""
    house = House(batch_window_seconds=60.0).with_queue(visibility_timeout_seconds=8)
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.run(after_seconds=1.9)
    assert house.sqs.deletes == []
    house.run(after_seconds=0.1)
    assert len(house.sqs.deletes) == 1


def test_the_first_receive_waits_a_second_and_later_ones_as_long_as_they_may() -> None:
    """An empty queue is known to be ready at once."""
    house = House().with_queue()
    assert house.sqs.receives[0].wait_seconds == FIRST_WAIT_SECONDS
    house.clock.now += 1.0
    house.sqs.answer_receive("orders")
    house.run(after_seconds=1.0)
    assert house.sqs.receives[0].wait_seconds == 20
    assert house.readiness.status().ready


@pytest.mark.parametrize(("visibility_timeout_seconds", "wait_seconds"), [(30, 20), (20, 15), (6, 1), (2, 1)])
def test_a_long_poll_ends_before_the_visibility_timeout(visibility_timeout_seconds: int, wait_seconds: int) -> None:
    """Else no delete of what it brought could ever be trusted."""
    house = House().with_queue(visibility_timeout_seconds=visibility_timeout_seconds)
    house.clock.now += 1.0
    house.sqs.answer_receive("orders")
    house.run(after_seconds=1.0)
    assert house.sqs.receives[0].wait_seconds == wait_seconds


def test_full_batches_bring_more_receives_up_to_the_most() -> None:
    """A backlog is met within as many answers as there may be receives."""
    house = House(max_receives=4).with_queue()
    for batch in range(12):
        house.sqs.answer_receive("orders", *(f"{batch}-{number}" for number in range(10)))
        house.run(after_seconds=0.01)
        while house.sqs.deletes:
            house.sqs.confirm_delete("orders")
    assert len(house.sqs.receives) == 4


def test_messages_of_a_backlog_wait_a_moment_for_others_to_share_their_commit() -> None:
    """A commit costs as much as many messages, and a backlog has more of them on the way."""
    house = with_backlog()
    house.sqs.answer_receive("orders", *numbered("first"))
    house.run()
    assert house.ledger.counted["orders"] == 10
    house.sqs.answer_receive("orders", *numbered("second"))
    house.run(after_seconds=COMMIT_WAIT_SECONDS / 2)
    assert house.ledger.counted["orders"] == 10
    house.run(after_seconds=COMMIT_WAIT_SECONDS / 2)
    assert house.ledger.counted["orders"] == 30


def test_an_answer_that_is_not_full_ends_the_wait_for_a_shared_commit() -> None:
    """Nothing more is on the way."""
    house = with_backlog()
    house.sqs.answer_receive("orders", *numbered("first"))
    house.run()
    house.sqs.answer_receive("orders", "last")
    house.run()
    assert house.ledger.counted["orders"] == 21


def test_a_stop_ends_the_wait_for_a_shared_commit() -> None:
    """What has arrived is counted and deleted at once."""
    house = with_backlog()
    house.sqs.answer_receive("orders", *numbered("first"))
    house.run()
    house.consumer.stop()
    house.run()
    assert house.ledger.counted["orders"] == 20


def test_many_messages_of_a_backlog_wait_for_no_others() -> None:
    """So that a commit stays short."""
    house = House(max_receives=COMMIT_MESSAGES).with_queue()
    batch = itertools.count()
    while len(house.sqs.receives) <= COMMIT_MESSAGES // 10:
        house.sqs.answer_receive("orders", *numbered(str(next(batch))))
        house.run(after_seconds=COMMIT_WAIT_SECONDS)
    before = house.ledger.counted["orders"]
    for _ in range(COMMIT_MESSAGES // 10):
        house.sqs.answer_receive("orders", *numbered(str(next(batch))))
    house.run()
    assert house.ledger.counted["orders"] >= before + COMMIT_MESSAGES


def with_backlog() -> House:
    """Make a house that has counted ten messages of a backlog, and has two receives in flight."""
    house = House(max_receives=4).with_queue()
    house.sqs.answer_receive("orders", *numbered("zeroth"))
    house.run()
    house.run(after_seconds=COMMIT_WAIT_SECONDS)
    assert house.ledger.counted["orders"] == 10
    assert len(house.sqs.receives) == 2
    return house


def numbered(name: str) -> list[str]:
    """Name a full batch of messages."""
    return [f"{name}-{number}" for number in range(10)]


def test_a_clock_that_is_ahead_of_sqs_does_not_take_a_stream_for_a_backlog() -> None:
    """Its messages seem to be older than they are; receives would come back nearly empty, and SQS bills each."""
    house = House(batch_window_seconds=1.0)
    house.consumer._wall = lambda: WALL_SECONDS + 5.0  # noqa: SLF001 - the machine's
    house.housekeeping.clock_skew_seconds = 4.6
    house.with_queue()
    for name in ("a", "b"):
        house.sqs.answer_receive("orders", name)
        house.run()
        assert house.sqs.receives == []
        house.run(after_seconds=1.0)
        assert len(house.sqs.receives) == 1


def test_sqs_is_not_blamed_for_its_silence_in_a_long_batch_window() -> None:
    """Nothing is asked of it until the window is over."""
    house = House(batch_window_seconds=60.0).with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    for _ in range(50):
        house.run(after_seconds=1.0)
    assert house.sqs.receives == []
    assert house.readiness.status().sentence == "Ready."


def test_a_pause_after_a_failure_makes_nobody_forget_how_long_sqs_was_silent() -> None:
    """The receive after the last answer got none; the next is sent after a backoff, which is no pause of ours."""
    house = House().with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    for _ in range(26):
        house.run(after_seconds=1.0)
    house.sqs.fail_receive("orders", "timeout")
    for _ in range(3):
        house.run(after_seconds=1.0)
    assert house.readiness.status().sentence == "SQS has not answered a receive for 29 s"


# The ledger's clock


def test_the_ledgers_clock_runs_while_receives_succeed() -> None:
    """A long poll of 20 s that was answered is 20 s in which a redelivery would have come."""
    house = House().with_queue()
    house.clock.now += 20.0
    house.sqs.answer_receive("orders")
    house.run()
    assert house.ledger.clocks["orders"] == pytest.approx(20.0)


def test_receives_side_by_side_let_the_clock_run_once() -> None:
    """Sixteen long polls at a time are not sixteen times the time."""
    house = House(max_receives=2).with_queue()
    for batch in range(3):
        house.sqs.answer_receive("orders", *(f"{batch}-{number}" for number in range(10)))
        house.run()
    before = house.ledger.clocks["orders"]
    house.clock.now += 10.0
    house.sqs.answer_receive("orders")
    house.sqs.answer_receive("orders")
    house.run()
    assert house.ledger.clocks["orders"] - before == pytest.approx(10.0)


def test_an_answer_that_was_found_hours_late_counts_for_no_more_than_its_call_was_allowed() -> None:
    """A process that was stopped, or frozen, forgets nothing: else what comes back would be counted twice."""
    house = House().with_queue()
    house.clock.now += 7200.0
    house.sqs.answer_receive("orders", "a", allowed_seconds=6.0)
    house.run()
    assert house.ledger.clocks["orders"] == pytest.approx(6.0)


def test_the_clock_takes_in_the_pauses_that_the_batch_window_makes() -> None:
    """On a steady stream most of the time passes between two receives, and they succeed all the time."""
    house = House(batch_window_seconds=1.0).with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    began = house.ledger.clocks["orders"]
    passed = 0.0
    for number in range(20):
        while not house.sqs.receives:
            house.run(after_seconds=0.05)
            passed += 0.05
        house.clock.now += 0.01
        passed += 0.01
        house.sqs.answer_receive("orders", f"{number}-1", f"{number}-2")
        house.run()
    assert house.ledger.clocks["orders"] - began == pytest.approx(passed, abs=0.1)


def test_an_outage_lets_no_time_pass_on_the_clock() -> None:
    """Nothing could have been redelivered meanwhile."""
    house = House().with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    before = house.ledger.clocks["orders"]
    house.sqs.fail_receive("orders", "connection")
    house.run()
    house.run(after_seconds=1000.0)
    house.clock.now += 0.5
    house.sqs.answer_receive("orders", "b")
    house.run()
    assert house.ledger.clocks["orders"] - before <= 1.0


# A commit that takes time


def test_answers_are_taken_in_while_a_commit_is_under_way() -> None:
    """They are submitted together once it has ended; nothing is deleted before."""
    house = House(max_receives=2).with_queue()
    house.ledger.slow = True
    house.sqs.answer_receive("orders", *(str(number) for number in range(10)))
    house.run(after_seconds=COMMIT_WAIT_SECONDS)
    house.sqs.answer_receive("orders", "x")
    house.run(after_seconds=2.0)
    assert len(house.ledger.submitted) == 1
    assert house.sqs.deletes == []
    house.ledger.end()
    house.run()
    assert [len(delete.deletions) for delete in house.sqs.deletes] == [10]
    (second,) = house.ledger.submitted[1:]
    assert [delivery.message_id for delivery in second["orders"].deliveries] == ids_of("x")


def test_receives_pause_when_too_much_has_gathered() -> None:
    """Memory is bounded, and what waits longer than its handle lives would be received in vain."""
    house = House(max_receives=16).with_queue(visibility_timeout_seconds=43_200)
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "first")
    house.run()
    batch = 0
    while house.sqs.receives:
        batch += 1
        assert batch < 10 * MAX_GATHERED_MESSAGES
        house.sqs.answer_receive("orders", *(f"{batch}-{number}" for number in range(10)))
        house.run()
    assert MAX_GATHERED_MESSAGES <= 10 * batch <= MAX_GATHERED_MESSAGES + 10 * 16


def test_receives_pause_when_a_commit_takes_a_quarter_of_the_visibility_timeout() -> None:
    """What came then could not be submitted before its handle is over."""
    house = House().with_queue(visibility_timeout_seconds=40)
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.answer_receive("orders", "b")
    house.run(after_seconds=9.0)
    assert len(house.sqs.receives) == 1
    house.sqs.answer_receive("orders", "c")
    house.run(after_seconds=1.0)
    assert house.sqs.receives == []


def test_the_visibility_timeout_of_a_queue_that_is_gone_pauses_no_receives() -> None:
    """None of its messages are on their way."""
    house = House()
    house.housekeeping.publish("shop-a", named=False, visibility_timeout_seconds=2)
    house.with_queue(visibility_timeout_seconds=40)
    house.sqs.fail_receive("shop-a", "queue_not_found")
    house.housekeeping.publish("shop-a", named=False, visibility_timeout_seconds=2, gone=True)
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.answer_receive("orders", "b")
    house.run(after_seconds=2.0)
    assert len(house.sqs.receives) == 1


def test_what_expired_before_it_could_be_submitted_is_released() -> None:
    """SQS has handed it out again by then; the accounts say where it went."""
    house = House().with_queue(visibility_timeout_seconds=30)
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.answer_receive("orders", "b", "c")
    house.run()
    house.clock.now += 31.0
    house.ledger.end()
    house.ledger.slow = False
    house.run()
    house.run(after_seconds=1.0)
    assert house.ledger.released == {"expired": 2}
    assert house.ledger.counted["orders"] == 1


def test_an_overdue_commit_is_named() -> None:
    """SQS is not blamed for a disk or a database that does not answer."""
    house = House().with_queue()
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.run(after_seconds=STUCK_SECONDS)
    assert house.readiness.status().sentence.startswith("the ledger's commit has been under way for 5 s")


@pytest.mark.parametrize("reopening", [False, True])
def test_a_commit_that_takes_long_is_not_asked_for_all_the_time(reopening: bool) -> None:  # noqa: FBT001 - a parameter
    """What was settled meanwhile, or the end of a backoff, is no reason to spin: it waits for the commit to end."""
    if reopening:
        house = failed_ledger()
        house.ledger.problem = None
        house.ledger.slow = True
        house.run(after_seconds=1.0)
    else:
        house = House().with_queue()
        house.sqs.answer_receive("orders", "a")
        house.run()
        house.ledger.slow = True
        house.sqs.answer_receive("orders", "b")
        house.sqs.confirm_delete("orders")
        house.run()
        house.sqs.answer_receive("orders", released={"malformed": 1})
        house.run()
    assert house.ledger.commit_started_at is not None
    house.run(after_seconds=10.0)
    house.sqs.waits.clear()
    for _ in range(4):
        house.run(after_seconds=ITERATION_SECONDS)
    assert set(house.sqs.waits) == {ITERATION_SECONDS}


# A ledger that fails


def failed_ledger() -> House:
    """Return a house whose ledger has just failed to commit a message."""
    house = House().with_queue()
    house.ledger.fails_with = LedgerError("full", "The disk is full.")
    house.sqs.answer_receive("orders", "a")
    house.run()
    return house


def test_after_a_failed_commit_nothing_is_deleted_or_received() -> None:
    """Whether it is on disk is not known."""
    house = failed_ledger()
    assert (house.sqs.deletes, house.sqs.receives) == ([], [])
    assert house.readiness.status().sentence == "The disk is full."


def test_a_ledger_that_works_again_is_proved_by_a_commit_before_anything_is_received() -> None:
    """To be read is not enough."""
    house = failed_ledger()
    house.run(after_seconds=1.0)
    assert house.ledger.reopened == 1
    house.ledger.problem = None
    house.ledger.slow = True
    house.run()
    assert house.sqs.receives == []
    house.ledger.end()
    house.run()
    assert len(house.sqs.receives) == 1
    assert house.readiness.status().sentence != "The disk is full."


def test_a_ledger_that_works_again_is_proved_by_a_commit_of_messages_as_well() -> None:
    """Of a receive that was open meanwhile: they are deleted, and don't come back."""
    house = House(max_receives=2).with_queue()
    house.sqs.answer_receive("orders", *numbered("first"))
    house.run(after_seconds=COMMIT_WAIT_SECONDS)
    house.run(after_seconds=COMMIT_WAIT_SECONDS)
    house.sqs.confirm_delete("orders")
    house.ledger.fails_with = LedgerError("full", "The disk is full.")
    house.sqs.answer_receive("orders", "a")
    house.run()
    assert len(house.sqs.receives) == 1
    house.ledger.problem = None
    house.sqs.answer_receive("orders", "b")
    house.run()
    assert [deletion.message_id for sent in house.sqs.deletes for deletion in sent.deletions] == ids_of("b")


def test_sqs_is_not_blamed_for_its_silence_while_the_ledger_failed() -> None:
    """Nothing was asked of it: what is asked afterwards may take its time."""
    house = failed_ledger()
    for _ in range(120):
        house.run(after_seconds=1.0)
    house.ledger.problem = None
    house.run()
    house.run(after_seconds=1.0)
    assert len(house.sqs.receives) == 1
    assert house.readiness.status().sentence == "Ready."


def test_what_arrives_while_the_ledger_fails_is_not_deleted() -> None:
    """A receive was under way: its messages are submitted, and the ledger accounts for them as released."""
    house = House(max_receives=2).with_queue()
    house.sqs.answer_receive("orders", *(str(number) for number in range(10)))
    house.run()
    house.run(after_seconds=COMMIT_WAIT_SECONDS)
    house.sqs.confirm_delete("orders")
    house.ledger.fails_with = LedgerError("io_error", "It can't be written.")
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.ledger.fails_with = house.ledger.problem
    house.sqs.answer_receive("orders", "b")
    house.run()
    assert house.sqs.deletes == []
    assert house.sqs.receives == []


# Messages that are no events


@pytest.mark.parametrize(("redrive", "deleted"), [(None, True), (DEAD_LETTERS, False)])
def test_what_is_no_event_is_left_where_there_is_a_redrive_policy(redrive: str | None, deleted: bool) -> None:  # noqa: FBT001 - a parameter
    """And settled at once: it is not to be deleted any more."""
    house = House().with_queue(dead_letter_queue_arn=redrive)
    house.sqs.answer_receive("orders", "a", body=NO_EVENT)
    house.run()
    assert bool(house.sqs.deletes) is deleted
    assert house.ledger.settled["orders"] == ([] if deleted else ids_of("a"))
    assert house.ledger.submitted[-1]["orders"].deliveries[0].outcome == "invalid_json"


def test_leave_without_a_redrive_policy_is_a_wrong_setting() -> None:
    """Nothing would ever take the messages away."""
    with pytest.raises(WrongSettingError, match="has no redrive policy"):
        House(on_invalid="leave").with_queue()


def test_leave_without_a_redrive_policy_stops_only_that_queue_under_a_prefix() -> None:
    """The others were not named either."""
    house = House(on_invalid="leave")
    house.housekeeping.publish("shop-a", named=False)
    house.housekeeping.publish("shop-b", named=False, dead_letter_queue_arn=DEAD_LETTERS)
    house.run()
    assert [sent.queue for sent in house.sqs.receives] == ["shop-b"]
    assert "has no redrive policy" in (house.readiness.status().queues["shop-a"] or "")


def test_a_queue_of_a_prefix_that_gets_its_redrive_policy_is_ready() -> None:
    """What stood in the way is told no longer."""
    house = House(on_invalid="leave")
    house.housekeeping.publish("shop-a", named=False)
    house.run()
    house.housekeeping.publish("shop-a", named=False, dead_letter_queue_arn=DEAD_LETTERS)
    house.run()
    house.clock.now += 1.0
    house.sqs.answer_receive("shop-a")
    house.run()
    assert house.readiness.status().queues == {"shop-a": None}


def test_a_left_message_of_a_fifo_queue_is_given_back_at_once() -> None:
    """It would block its group for the visibility timeout, each time until the redrive policy moves it."""
    house = House().with_queue("orders.fifo", dead_letter_queue_arn=DEAD_LETTERS)
    house.sqs.answer_receive("orders.fifo", "a", body=NO_EVENT)
    house.run()
    (sent,) = house.sqs.made_visible
    assert [deletion.message_id for deletion in sent.deletions] == ids_of("a")


def test_what_nothing_would_take_away_is_not_given_back_at_once() -> None:
    """Without the redrive policy, which was removed meanwhile, it would be received again and again, all the time."""
    house = House(on_invalid="leave").with_queue("orders.fifo", dead_letter_queue_arn=DEAD_LETTERS)
    house.housekeeping.publish("orders.fifo")
    house.run()
    house.sqs.answer_receive("orders.fifo", "a", body=NO_EVENT)
    house.run()
    assert house.sqs.made_visible == []


def test_where_giving_back_is_denied_it_is_not_asked_again() -> None:
    """The permission is one that `run` can do without."""
    house = House().with_queue("orders.fifo", dead_letter_queue_arn=DEAD_LETTERS)
    house.sqs.answer_receive("orders.fifo", "a", body=NO_EVENT)
    house.run()
    house.sqs.fail_visible("orders.fifo", "access_denied")
    house.run()
    house.sqs.answer_receive("orders.fifo", "a", body=NO_EVENT)
    house.run()
    assert house.sqs.made_visible == []


def test_an_answer_of_which_nothing_can_be_used_backs_off() -> None:
    """Going on at once would run through the queue and bring its messages nearer to the dead-letter queue."""
    house = House().with_queue()
    house.sqs.answer_receive("orders", released={"md5_mismatch": 3})
    house.run()
    assert house.sqs.receives == []
    house.run(after_seconds=10.0)
    house.run(after_seconds=1.0)
    assert house.ledger.released == {"md5_mismatch": 3}
    assert len(house.sqs.receives) == 1


# Several queues


def test_each_queue_has_a_receive_however_few_may_be_in_flight() -> None:
    """The number is for all together, but at least one each."""
    house = House(max_receives=2)
    for name in ("a", "b", "c"):
        house.housekeeping.publish(name)
    house.run()
    assert sorted(sent.queue for sent in house.sqs.receives) == ["a", "b", "c"]


def test_a_queue_with_a_backlog_leaves_the_others_their_receive() -> None:
    """However many it wants."""
    house = House(max_receives=4)
    house.housekeeping.publish("busy")
    house.housekeeping.publish("quiet")
    house.run()
    for batch in range(10):
        house.sqs.answer_receive("busy", *(f"{batch}-{number}" for number in range(10)))
        house.run()
        while house.sqs.deletes:
            house.sqs.confirm_delete("busy")
    assert house.sqs.receives_in_flight("busy") == 3
    assert house.sqs.receives_in_flight("quiet") == 1


def test_queues_share_one_commit() -> None:
    """One transaction and one fsync for all that has arrived."""
    house = House()
    house.housekeeping.publish("a")
    house.housekeeping.publish("b")
    house.run()
    house.sqs.answer_receive("a", "1")
    house.sqs.answer_receive("b", "1")
    house.run()
    (batch,) = house.ledger.submitted
    assert set(batch) == {"a", "b"}
    assert sorted(delete.queue for delete in house.sqs.deletes) == ["a", "b"]


def test_a_queue_that_fails_leaves_the_others_alone() -> None:
    """Its backoff and its sentence are its own."""
    house = House()
    house.housekeeping.publish("good")
    house.housekeeping.publish("bad")
    house.run()
    house.sqs.fail_receive("bad", "access_denied")
    house.sqs.answer_receive("good", "1")
    house.run()
    assert house.sqs.receives_in_flight("good") == 1
    status = house.readiness.status()
    assert status.ready
    assert status.queues == {"good": None, "bad": "receives fail (access_denied): It failed."}
    assert house.housekeeping.woken == ["bad"]


def test_a_queue_that_is_gone_is_not_received_from() -> None:
    """Its counts stay."""
    house = House()
    house.housekeeping.publish("shop-a", named=False, gone=True)
    house.run()
    assert house.sqs.receives == []


def test_queues_that_are_gone_take_no_receives_from_the_others() -> None:
    """A prefix of queues that come and go leaves many behind, which want none."""
    house = House(max_receives=4)
    house.housekeeping.publish("busy", named=False)
    for number in range(8):
        house.housekeeping.publish(f"gone-{number}", named=False)
    house.run()
    for number in range(8):
        house.housekeeping.publish(f"gone-{number}", named=False, gone=True)
        house.sqs.fail_receive(f"gone-{number}", "queue_not_found")
    for batch in range(10):
        house.sqs.answer_receive("busy", *numbered(str(batch)))
        house.run()
        while house.sqs.deletes:
            house.sqs.confirm_delete("busy")
    assert house.sqs.receives_in_flight("busy") == 4
    house.housekeeping.publish("gone-0", named=False)
    house.run(after_seconds=20.0)
    assert house.sqs.receives_in_flight("gone-0") == 1, "it is back, and sure of one"


def test_a_queue_that_is_gone_is_not_said_to_be_slowed_down() -> None:
    """Nothing is received from it, and no commits are made to let it go on."""
    house = House().with_queue()
    house.ledger.limits["orders"] = "Raise --ledger.max-ids."
    house.run(after_seconds=1.0)
    house.housekeeping.publish("orders", gone=True)
    house.run(after_seconds=1.0)
    house.run(after_seconds=1.0)
    commits = len(house.ledger.submitted)
    for _ in range(10):
        house.run(after_seconds=1.0)
    assert len(house.ledger.submitted) == commits
    assert house.readiness.status().sentence != "Raise --ledger.max-ids."


def test_rows_of_another_queue_stop_a_named_queue_for_good_and_one_of_a_prefix_alone() -> None:
    """The ledger holds another queue's counts under that name."""
    named = House()
    named.ledger.refused["orders"] = LedgerError("other_queue", "It is another queue's.")
    with pytest.raises(LedgerError, match="another queue's"):
        named.with_queue()
    found = House()
    found.ledger.refused["shop-a"] = LedgerError("other_queue", "It is another queue's.")
    found.housekeeping.publish("shop-a", named=False)
    found.housekeeping.publish("shop-b", named=False)
    found.run()
    assert [sent.queue for sent in found.sqs.receives] == ["shop-b"]
    assert found.readiness.status().queues["shop-a"] == "It is another queue's."


def test_standing_at_the_quota_of_messages_in_flight_is_not_ready() -> None:
    """A long poll gets empty answers there, and no error."""
    house = House().with_queue()
    house.clock.now += 1.0
    house.sqs.answer_receive("orders")
    house.run()
    assert house.readiness.status().ready
    house.housekeeping.publish("orders", depth=QueueDepth(visible=5000, in_flight=MAX_IN_FLIGHT - 10))
    house.run()
    assert "its quota is 120000" in house.readiness.status().sentence
    house.clock.now += 1.0
    house.sqs.answer_receive("orders", "1")
    house.run()
    assert house.readiness.status().ready, "a message that comes is the end of it, however old the depth is"
    house.clock.now += 1.0
    house.sqs.answer_receive("orders")
    house.run()
    assert "its quota is 120000" in house.readiness.status().sentence
    house.housekeeping.publish("orders", depth=QueueDepth(visible=5000, in_flight=10))
    house.run()
    assert house.readiness.status().ready


def test_a_memory_of_ids_that_is_full_slows_receives_down_and_says_so() -> None:
    """It never stands still: as many are taken as the ledger can remember, and commits forget the oldest."""
    house = House(max_receives=8).with_queue()
    for batch in range(8):
        house.sqs.answer_receive("orders", *(f"{batch}-{number}" for number in range(10)))
        house.run()
        while house.sqs.deletes:
            house.sqs.confirm_delete("orders")
    house.ledger.limits["orders"] = "Raise --ledger.max-ids."
    house.ledger.capacities["orders"] = 20
    while house.sqs.receives:
        house.sqs.answer_receive("orders")
    house.run(after_seconds=2.0)
    assert len(house.sqs.receives) <= 2
    assert house.readiness.status().sentence == "Raise --ledger.max-ids."
    commits = len(house.ledger.submitted)
    house.run(after_seconds=0.2)
    house.run(after_seconds=0.2)
    assert len(house.ledger.submitted) > commits


# The end


def test_after_a_stop_open_long_polls_are_given_their_time_and_what_they_bring_is_deleted() -> None:
    """And nothing new is asked for; deletes do not wait for others any more."""
    house = House(batch_window_seconds=1.0).with_queue()
    house.consumer.stop()
    house.run()
    assert not house.done()
    house.clock.now += 1.0
    house.sqs.answer_receive("orders", "a")
    house.run()
    assert house.sqs.receives == []
    assert len(house.sqs.deletes) == 1
    house.sqs.confirm_delete("orders")
    house.run()
    assert house.done()


def test_a_long_poll_that_stays_open_does_not_forfeit_the_deletes_grace() -> None:
    """It is abandoned at the timeout, and the deletes have half a second more."""
    house = House(max_receives=2).with_queue()
    house.sqs.answer_receive("orders", *(str(number) for number in range(10)))
    house.run()
    house.consumer.stop()
    house.clock.now += 4.0
    assert not house.done()
    assert house.sqs.abandoned["orders"] >= 1
    assert house.done(after_seconds=DELETE_GRACE_SECONDS)


def test_a_stop_waits_for_the_commit_under_way_and_deletes_after_it() -> None:
    """Within the timeout and the grace, and nothing else is deleted."""
    house = House().with_queue()
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.consumer.stop()
    house.run(after_seconds=4.0)
    assert not house.done()
    house.ledger.end()
    house.run()
    assert len(house.sqs.deletes) == 1
    house.sqs.confirm_delete("orders")
    house.run()
    assert house.done()


@pytest.mark.parametrize("until_empty", [False, True])
def test_what_was_released_last_is_accounted_for_before_the_end(until_empty: bool) -> None:  # noqa: FBT001 - a parameter
    """No further commit would come that accounts for it."""
    house = House(until_empty=until_empty).with_queue()
    house.sqs.answer_receive("orders", released={"malformed": 1})
    house.run(after_seconds=1.0)
    house.run(after_seconds=1.0)
    assert house.ledger.released == {"malformed": 1}
    house.run(after_seconds=1.0)
    if not until_empty:
        house.consumer.stop()
    house.sqs.answer_receive("orders", released={"malformed": 2})
    house.run()
    until = house.clock.now + 3.0
    while house.clock.now < until and not house.done():
        house.run(after_seconds=0.1)
        if house.sqs.receives:
            house.sqs.answer_receive("orders")
    assert house.clock.now < until
    assert house.ledger.released == {"malformed": 3}


def test_a_stop_waits_for_a_slow_commit_without_asking_for_it_all_the_time() -> None:
    """Each iteration waits, for the ledger's descriptor among others, though more messages wait to be submitted."""
    house = House().with_queue()
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.answer_receive("orders", "b")
    house.run()
    house.consumer.stop()
    house.run(after_seconds=0.1)
    house.sqs.waits.clear()
    for _ in range(12):
        house.run(after_seconds=ITERATION_SECONDS)
    assert set(house.sqs.waits) == {ITERATION_SECONDS}
    assert not house.done()


def test_until_empty_ends_when_every_queue_is_empty_and_all_is_deleted() -> None:
    """An empty answer alone is not enough."""
    house = House(until_empty=True)
    house.housekeeping.publish("a")
    house.housekeeping.publish("b")
    house.run()
    house.sqs.answer_receive("a", "1")
    house.sqs.answer_receive("b")
    house.run()
    assert not house.done()
    house.sqs.confirm_delete("a")
    house.run()
    house.sqs.answer_receive("a")
    house.run()
    assert house.done()


def test_until_empty_waits_until_each_prefix_was_listed() -> None:
    """A named queue may be empty before it is known which others there are."""
    house = House(until_empty=True).with_queue()
    house.housekeeping.all_found = False
    house.run()
    house.sqs.answer_receive("orders")
    house.run()
    assert not house.done()
    house.housekeeping.all_found = True
    house.housekeeping.publish("shop-a", named=False)
    house.run()
    assert not house.done()
    house.sqs.answer_receive("shop-a")
    house.run()
    assert house.done()


def test_until_empty_does_not_call_a_queue_empty_whose_deletes_are_denied() -> None:
    """What was not deleted comes back."""
    house = House(until_empty=True).with_queue()
    house.sqs.answer_receive("orders", "1")
    house.run()
    house.sqs.fail_delete("orders", "access_denied")
    house.run()
    assert not house.done()


def test_until_empty_waits_for_messages_whose_commit_failed_to_come_back() -> None:
    """An empty answer before says only that they are still invisible."""
    house = House(until_empty=True).with_queue(visibility_timeout_seconds=30)
    house.ledger.slow = True
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.answer_receive("orders")
    house.ledger.fails_with = LedgerError("full", "The disk is full.")
    house.ledger.end()
    house.ledger.slow = False
    house.run(after_seconds=1.0)
    house.ledger.problem = None
    for _ in range(2):
        house.run(after_seconds=10.0)
        house.sqs.answer_receive("orders")
        house.run()
        assert not house.done()
    house.run(after_seconds=10.0)
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.confirm_delete("orders")
    house.run()
    house.sqs.answer_receive("orders")
    house.run()
    assert house.done()
    assert house.ledger.counted["orders"] == 1


def test_until_empty_asks_again_after_messages_have_expired() -> None:
    """They were not counted, and whatever was answered while they were invisible says nothing of them."""
    house = House(until_empty=True).with_queue(visibility_timeout_seconds=30)
    house.ledger.slow = True
    for name in ("a", "b"):
        house.sqs.answer_receive("orders", name)
        house.run()
    house.sqs.answer_receive("orders")
    house.run(after_seconds=1.0)
    house.clock.now += 30.0
    house.ledger.end()
    house.ledger.slow = False
    house.run()
    assert house.ledger.released == {"expired": 1}
    assert not house.done()
    house.run()
    assert len(house.sqs.receives) == 1


def test_until_empty_does_not_wait_for_a_queue_of_a_prefix_that_is_gone() -> None:
    """It has nothing more to give."""
    house = House(until_empty=True)
    house.housekeeping.publish("shop-a", named=False)
    house.housekeeping.publish("shop-b", named=False)
    house.run()
    house.sqs.answer_receive("shop-a")
    house.sqs.fail_receive("shop-b", "queue_not_found")
    house.housekeeping.publish("shop-b", named=False, gone=True)
    house.run()
    assert house.done()


def test_until_empty_waits_for_messages_whose_deletes_failed_to_come_back() -> None:
    """They are counted, but the queue is not empty."""
    house = House(until_empty=True).with_queue(visibility_timeout_seconds=30)
    house.sqs.answer_receive("orders", "a")
    house.run()
    while house.clock.now < 1030.0:
        assert not house.done()
        if house.sqs.receives:
            house.sqs.answer_receive("orders")
        if house.sqs.deletes:
            house.sqs.fail_delete("orders", "server")
        house.run(after_seconds=1.0)
    house.run(after_seconds=1.0)
    assert not house.done()
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.run(after_seconds=10.0)
    house.sqs.confirm_delete("orders")
    house.run()
    house.sqs.answer_receive("orders")
    house.run()
    assert house.done()
    assert house.ledger.counted["orders"] == 1


def test_until_empty_asks_again_after_a_delete_was_confirmed_late() -> None:
    """Its handle may have been over, and SQS says that it has deleted then, too."""
    house = House(until_empty=True).with_queue(visibility_timeout_seconds=30)
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.sqs.answer_receive("orders")
    house.run(after_seconds=1.0)
    house.clock.now += 30.0
    house.sqs.confirm_delete("orders")
    house.run()
    assert not house.done()
    house.run()
    assert len(house.sqs.receives) == 1


@pytest.mark.parametrize(
    ("reason", "sentence"), [("access_denied", "SQS denies sqs:DeleteMessage"), ("server", r"deletes fail \(server\)")]
)
def test_until_empty_ends_with_an_error_while_deletes_fail(reason: str, sentence: str) -> None:
    """That messages come back, and are received again, is no sign that anything works."""
    house = House(until_empty=True).with_queue(visibility_timeout_seconds=10)

    def for_a_minute() -> None:
        until = house.clock.now + 70.0
        while house.clock.now < until:
            if house.sqs.receives:
                house.sqs.answer_receive("orders", "1")
            while house.sqs.deletes:
                house.sqs.fail_delete("orders", reason)
            house.run(after_seconds=1.0)
            house.done()

    with pytest.raises(ExporterError, match=f"nothing has worked .*{sentence}"):
        for_a_minute()


def test_until_empty_goes_on_for_as_long_as_deletes_are_confirmed() -> None:
    """Nothing is received while many wait, and one batch at a time tries, again and again."""
    house = House(until_empty=True).with_queue(visibility_timeout_seconds=600)
    for batch in range(20):
        house.sqs.answer_receive("orders", *numbered(str(batch)))
        house.run(after_seconds=COMMIT_WAIT_SECONDS)
    while house.sqs.receives:
        house.sqs.answer_receive("orders")
    for _ in range(10):
        while house.sqs.deletes:
            house.sqs.fail_delete("orders", "server")
        house.run()
        house.run(after_seconds=11.0)
        house.sqs.confirm_delete("orders")
        house.run()
        assert not house.done()


def test_until_empty_does_not_blame_sqs_for_a_queue_that_is_empty() -> None:
    """It is not asked any more, while another one still has messages."""
    house = House(until_empty=True)
    house.housekeeping.publish("a")
    house.housekeeping.publish("b")
    house.run()
    house.sqs.answer_receive("a")
    for number in range(40):
        house.sqs.answer_receive("b", f"{number}")
        house.run(after_seconds=1.0)
    assert house.readiness.status().queues["a"] is None


def test_until_empty_ends_with_an_error_when_nothing_has_worked_for_its_timeout() -> None:
    """A job that can't work must not hang for ever."""
    house = House(until_empty=True).with_queue()
    house.sqs.fail_receive("orders", "access_denied")
    house.run(after_seconds=59.0)
    assert not house.done()
    with pytest.raises(ExporterError, match="nothing has worked for --until-empty-timeout \\(60 s\\): receives fail"):
        house.done(after_seconds=1.0)


def test_an_iteration_waits_no_longer_than_until_the_next_thing_is_due() -> None:
    """A delete that waits for others, for five windows, is sent at its time and not at the next quarter of a second."""
    house = House(batch_window_seconds=0.1).with_queue()
    house.sqs.answer_receive("orders", "a")
    house.run()
    house.run(after_seconds=0.1)
    house.run(after_seconds=0.3)
    assert house.sqs.waits[-1] == pytest.approx(0.1)
    assert house.sqs.deletes == []
    house.run(after_seconds=0.1)
    assert len(house.sqs.deletes) == 1
