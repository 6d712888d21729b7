"""Which deletes are sent when, and what becomes of those that SQS does not confirm."""

from __future__ import annotations

import random

import pytest

from exporter.consumer.batch_window import BatchWindow
from exporter.consumer.deletions import MAX_REFUSED, MAX_UNCONFIRMED, PROBE_SECONDS, Deletions
from exporter.sqs.answers import Deletion

FOREVER = float("inf")
VISIBILITY_TIMEOUT_SECONDS = 20.0
"""A quarter of it, and five windows of a second, are five seconds."""


@pytest.fixture(autouse=True)
def longest_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the upper end of the jitter, so that a wait can be told beforehand."""
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


def some(count: int, *, first: int = 0, valid_until: float = FOREVER) -> list[Deletion]:
    """Return deletions of different messages."""
    return [Deletion(number.to_bytes(16), f"handle {number}", valid_until) for number in range(first, first + count)]


def without_window() -> Deletions:
    """Return deletions that never wait for others."""
    return Deletions(BatchWindow(0.0))


def sent(deletions: Deletions, now: float, *, most: int = 100) -> list[list[Deletion]]:
    """Return the batches that are sent at `now`."""
    return [list(batch) for batch in deletions.batches(now, most, VISIBILITY_TIMEOUT_SECONDS)]


def test_batches_hold_at_most_ten() -> None:
    """SQS takes ten a call."""
    deletions = without_window()
    deletions.add(some(25))
    assert [len(batch) for batch in sent(deletions, 0.0)] == [10, 10, 5]


def test_no_more_batches_are_sent_than_are_free() -> None:
    """The rest waits for the next iteration."""
    deletions = without_window()
    deletions.add(some(25))
    assert [len(batch) for batch in sent(deletions, 0.0, most=2)] == [10, 10]
    assert [len(batch) for batch in sent(deletions, 0.0, most=2)] == [5]


def test_fewer_than_ten_wait_for_others_until_the_hold_is_over() -> None:
    """SQS bills each call: three deletes wait for company, but not for ever."""
    deletions = Deletions(BatchWindow(1.0))
    deletions.add(some(3, valid_until=25.0))
    assert deletions.due_at(VISIBILITY_TIMEOUT_SECONDS) == 10.0
    assert sent(deletions, 9.9) == []
    assert [len(batch) for batch in sent(deletions, 10.0)] == [3]


def test_ten_are_sent_at_once_and_what_is_left_waits_anew() -> None:
    """The hold is for those that came last."""
    deletions = Deletions(BatchWindow(1.0))
    deletions.add(some(6, valid_until=25.0))
    deletions.add(some(6, first=6, valid_until=25.5))
    assert [len(batch) for batch in sent(deletions, 5.6)] == [10]
    assert deletions.due_at(VISIBILITY_TIMEOUT_SECONDS) == 10.5
    assert sent(deletions, 10.4) == []
    assert [len(batch) for batch in sent(deletions, 10.5)] == [2]


def test_deletes_do_not_wait_for_hours_where_the_visibility_timeout_was_shortened() -> None:
    """What is left of a handle says when its message was received only as long as the timeout stays the same."""
    deletions = Deletions(BatchWindow(1.0))
    deletions.add(some(3, valid_until=43_200.0))
    assert [len(batch) for batch in sent(deletions, 6.0)] == [3]


def test_an_expired_handle_is_never_sent() -> None:
    """It would be confirmed and delete nothing; the message comes back and is deleted with its fresh handle."""
    deletions = without_window()
    deletions.add([*some(2, valid_until=10.0), *some(2, first=2, valid_until=20.0)])
    assert sent(deletions, 10.0) == [some(2, first=2, valid_until=20.0)]
    assert deletions.unconfirmed == 2


def test_after_a_batch_of_which_nothing_was_confirmed_one_batch_tries() -> None:
    """An outage of deletes is not hammered: after a wait one batch goes out, and the others after its success."""
    deletions = without_window()
    deletions.add(some(40))
    first, *others = sent(deletions, 0.0)
    deletions.failed(first, 0.0)
    for batch in others:
        deletions.failed(batch, 0.0)
    assert sent(deletions, 0.9) == []
    (probe,) = sent(deletions, 1.0)
    assert sent(deletions, 1.0) == [], "the others wait for the answer"
    deletions.confirmed(probe)
    assert [len(batch) for batch in sent(deletions, 1.0)] == [10, 10, 10]


def test_refused_entries_are_tried_again_after_a_while() -> None:
    """SQS deleted their neighbours, so it is not deletes that fail."""
    deletions = without_window()
    deletions.add(some(10))
    (batch,) = sent(deletions, 0.0)
    deletions.confirmed(batch[1:])
    deletions.refused(batch[:1], 0.0)
    assert sent(deletions, 0.5) == []
    assert sent(deletions, 1.0) == [batch[:1]]


def test_entries_that_are_refused_for_ever_are_bounded() -> None:
    """The oldest of too many are given up: their messages come back."""
    deletions = without_window()
    many = some(MAX_REFUSED + 100)
    deletions.add(many)
    for batch in sent(deletions, 0.0):
        deletions.refused(batch, 0.0)
    assert deletions.unconfirmed == MAX_REFUSED


def test_a_batch_of_entries_that_are_always_refused_says_nothing_of_sqs() -> None:
    """Where all of a batch have been refused before, its failure is no outage of deletes."""
    deletions = without_window()
    deletions.add(some(2))
    (batch,) = sent(deletions, 0.0)
    deletions.refused(batch, 0.0)
    (again,) = sent(deletions, 1.0)
    assert deletions.failed(again, 1.0) is False


def test_receives_pause_above_the_limit_of_unconfirmed_deletes() -> None:
    """More messages would only come back."""
    deletions = without_window()
    deletions.add(some(MAX_UNCONFIRMED))
    assert deletions.receives(4, 0.0) == 4
    deletions.add(some(1, first=MAX_UNCONFIRMED))
    assert deletions.receives(4, 0.0) == 0


def test_while_deletes_are_denied_one_receive_in_a_while_asks_whether_they_still_are() -> None:
    """One message is risked every half minute; a confirmed delete ends that."""
    deletions = without_window()
    deletions.add(some(1))
    (batch,) = sent(deletions, 0.0)
    deletions.failed(batch, 0.0, denied=True)
    deletions.drop()
    assert deletions.receives(4, 0.0) == 1
    assert deletions.receives(4, PROBE_SECONDS - 0.1) == 0
    assert deletions.receives(4, PROBE_SECONDS) == 1
    deletions.add(some(1, first=1))
    (batch,) = sent(deletions, PROBE_SECONDS)
    deletions.confirmed(batch)
    assert deletions.receives(4, PROBE_SECONDS) == 4


def test_dropped_deletes_are_forgotten_but_those_in_flight_still_answer() -> None:
    """While the ledger fails nothing more is deleted."""
    deletions = without_window()
    deletions.add(some(15))
    (batch,) = sent(deletions, 0.0, most=1)
    deletions.drop()
    assert sent(deletions, 0.0) == []
    assert deletions.unconfirmed == 10
    deletions.confirmed(batch)
    assert deletions.unconfirmed == 0
    assert deletions.due_at(VISIBILITY_TIMEOUT_SECONDS) == FOREVER


def test_entries_that_are_refused_for_twelve_hours_stop_no_receives() -> None:
    """Whatever they pile up to: those that are no longer tried come back, and are deleted with a fresh handle."""
    deletions = without_window()
    for number in range(0, 20_000, 10):
        now = number / 1_000
        deletions.add(some(10, first=number, valid_until=43_200.0))
        for batch in sent(deletions, now):
            refused = [deletion for deletion in batch if deletion.receipt_handle.endswith("0")]
            if len(refused) == len(batch):
                assert not deletions.failed(refused, now), "it says nothing about SQS"
                continue
            deletions.confirmed([deletion for deletion in batch if deletion not in refused])
            deletions.refused(refused, now)
        assert deletions.receives(16, now) == 16
    assert 0 < deletions.unconfirmed <= MAX_REFUSED
