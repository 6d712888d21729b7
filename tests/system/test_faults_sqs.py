"""The worst that SQS may do, to the running program: counts and sums stay exact, and nothing stays in the queue."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from outages import (
    DELETES,
    ENDS_SECONDS,
    EVENTS,
    MOST_CALLS,
    RECEIVES,
    SHORT_WAIT,
    Case,
    Fault,
    a_new_receive_is_made,
    all_is_settled,
    counting,
    name_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REFUSALS = (
    Fault(RECEIVES, "error", "throttled", {"code": "RequestThrottled"}),
    Fault(RECEIVES, "error", "over_limit", {"code": "OverLimit"}),
    Fault(RECEIVES, "error", "kms", {"code": "KmsAccessDenied"}),
    Fault(RECEIVES, "error", "credentials", {"code": "ExpiredTokenException"}),
    Fault(RECEIVES, "error", "clock_skew", {"code": "RequestTimeTooSkewed"}),
    Fault(RECEIVES, "error", "access_denied", {"code": "AccessDeniedException"}),
    Fault(RECEIVES, "error", "queue_not_found", {"code": "QueueDoesNotExist"}),
    Fault(RECEIVES, "error", "server", {"code": "InternalFailure", "acted": True}),
    Fault(DELETES, "error", "throttled", {"code": "RequestThrottled"}),
    Fault(DELETES, "error", "kms", {"code": "KmsDisabled"}),
    Fault(DELETES, "error", "credentials", {"code": "ExpiredTokenException"}),
    Fault(DELETES, "error", "server", {"code": "ServiceUnavailable"}),
    Fault(DELETES, "error", "server", {"code": "InternalFailure", "acted": True}),
)


def a_message_twice_in_a_batch_counts_once(ledger: Path) -> None:
    """Only the later of its two handles deletes it."""
    handed_out_again(ledger, duplicate_in_batch=0.2)


def a_message_in_two_batches_counts_once(ledger: Path) -> None:
    """Show it where the handle of the first goes stale, and its delete is confirmed all the same."""
    handed_out_again(ledger, duplicate_across_batches=0.2)


def a_message_that_comes_back_after_a_confirmed_delete_counts_once(ledger: Path) -> None:
    """Show it for the copy of a server that was down."""
    handed_out_again(ledger, return_after_delete=0.2)


def all_kinds_of_duplicates_and_hidden_messages_at_once_count_once(ledger: Path) -> None:
    """SQS may ask only some of its servers: an answer with less than there is ends nothing."""
    handed_out_again(ledger, duplicate_in_batch=0.2, duplicate_across_batches=0.2, return_after_delete=0.2, hide=0.5)


def handed_out_again(ledger: Path, **behaviour: float) -> None:
    """Count a thousand messages of a queue that behaves like this: received = counted + rejected + duplicates."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
        sqs.behave(**behaviour)
        sqs.load(1_000, seed=5, invalid_fraction=0.1)
        exporter.wait_for(lambda scrape: scrape.counted + scrape.rejected == 1_000)
        all_is_settled(sqs, exporter)
        account, scrape = sqs.account(), exporter.scrape()
        assert scrape.received == account.deliveries > 1_000
        assert scrape.duplicate == account.deliveries - 1_000
        assert scrape.duplicate == account.duplicates + account.returned_after_delete


def a_stale_handle_that_deletes_nothing_leaves_the_message_to_its_fresh_one(ledger: Path) -> None:
    """SQS confirms the delete of a message that has been handed out again: the copy is recognised and deleted."""
    with counting(ledger) as (sqs, exporter):
        fault = sqs.fault("error", DELETES, code="ServiceUnavailable")
        sqs.send(EVENTS)
        exporter.wait_for(lambda scrape: scrape.counted == 8)
        sqs.advance(31)
        exporter.wait_for(lambda scrape: scrape.duplicate == 4)
        sqs.clear(fault)
        all_is_settled(sqs, exporter)
        assert sqs.account().stale_deletes == 4


def a_delete_that_is_confirmed_in_part_is_trusted_in_part(ledger: Path) -> None:
    """Refused entries stay unsettled and are tried again a little later; what is confirmed is settled; it is ready."""
    with counting(ledger) as (sqs, exporter):
        sqs.fault("failed_entries", entries=3)
        sqs.load(50, seed=6)
        exporter.wait_for(lambda scrape: scrape.counted == 54)
        account = sqs.wait_until(lambda account: account.deleted >= 4 + 35)
        scrape = exporter.wait_for(
            lambda scrape: scrape.total("sqs_exporter_message_delete_failures_total", reason="server") >= 15
        )
        assert scrape.total("sqs_exporter_ledger_unsettled_messages") >= 3
        assert exporter.ready()[0]
        assert account.calls[DELETES] <= MOST_CALLS
        sqs.clear()
        all_is_settled(sqs, exporter)
        assert exporter.scrape().duplicate == 0


def deletes_that_fail_in_part_for_ever_hold_nothing_up(ledger: Path) -> None:
    """Let SQS refuse one entry of each batch, whatever is tried: a backlog is counted all the same, and it is ready."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
        sqs.fault("failed_entries")
        sqs.load(30_000, seed=7)
        exporter.wait_for(lambda scrape: scrape.counted == 30_000)
        assert exporter.ready()[0]
        scrape = exporter.wait_for(
            lambda scrape: scrape.total("sqs_exporter_message_delete_failures_total", reason="server") >= 3_000
        )
        assert scrape.total("sqs_exporter_ledger_unsettled_messages") < 6_000
        sqs.clear()
        sqs.advance(31)
        all_is_settled(sqs, exporter)


def a_delete_that_is_answered_after_the_visibility_timeout_settles_nothing(ledger: Path) -> None:
    """By then the handle may have been stale, and SQS may have deleted nothing: the id stays unsettled."""
    with counting(ledger, attributes={"VisibilityTimeout": "10"}) as (sqs, exporter):
        sqs.fault("error", DELETES, times=2, code="ServiceUnavailable")
        # They have gathered for 2.5 s and waited for a second at least before they succeed: that is more than 10 s.
        sqs.fault("delay", DELETES, seconds=8)
        sqs.send(EVENTS)
        exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_messages_deleted_total") == 8)
        sqs.send(EVENTS)
        scrape = exporter.wait_for(lambda scrape: scrape.counted == 12)
        assert scrape.total("sqs_exporter_ledger_unsettled_messages") == 8


def a_queue_with_a_visibility_timeout_of_0_is_asked_for_a_longer_one(ledger: Path) -> None:
    """Otherwise no handle would outlive its own receive, and no message would ever be deleted."""
    with counting(ledger, attributes={"VisibilityTimeout": "0"}) as (sqs, exporter):
        sqs.load(100, seed=8)
        all_is_settled(sqs, exporter)
        assert exporter.scrape().duplicate == 0


def denied_deletes_stop_the_taking_of_messages_until_they_are_allowed(ledger: Path) -> None:
    """Show that it says what permission is missing, tries seldom, and goes on by itself where it is granted."""
    with counting(ledger) as (sqs, exporter):
        before = sqs.account()
        sqs.fault("error", DELETES, code="AccessDeniedException")
        sqs.load(10, seed=9)
        sentence = exporter.wait_until_ready(ready=False)
        assert "SQS denies sqs:DeleteMessage" in sentence
        assert exporter.healthy()
        sqs.wait_until(lambda account: account.waiting_receives == 0)
        sqs.load(100, seed=10)
        account = sqs.wait_until(lambda account: account.calls[DELETES] >= before.calls[DELETES] + 4)
        assert account.handed_out <= 4 + 20, "one receive was under way"
        scrape = exporter.scrape()
        assert scrape.counted == account.handed_out
        assert scrape.total("sqs_exporter_message_delete_failures_total", reason="access_denied") >= 10
        assert account.deleted == 4
        # The handles are over: from now on a receive now and then finds out, and takes one batch at most.
        sqs.clear()
        sqs.advance(31)
        all_is_settled(sqs, exporter)


def a_receive_asks_now_and_then_whether_denied_deletes_are_allowed(ledger: Path) -> None:
    """When no handle is left to try, one batch is taken: with it the way back is found."""
    with counting(ledger, attributes={"VisibilityTimeout": "10"}) as (sqs, exporter):
        fault = sqs.fault("error", DELETES, code="AccessDeniedException")
        sqs.load(300, seed=11)
        exporter.wait_until_ready(ready=False)
        sqs.wait_until(lambda account: account.waiting_receives == 0)
        taken = sqs.account().deliveries
        account = sqs.wait_until(lambda account: account.deliveries > taken)
        assert account.deliveries <= taken + 10
        sqs.clear(fault)
        sqs.advance(10)
        all_is_settled(sqs, exporter)


def a_clock_that_differs_from_sqs_is_told_and_survived(ledger: Path) -> None:
    """Show that calls are signed with SQS's time after a refusal, and with this machine's when they agree again."""
    with counting(ledger) as (sqs, exporter):
        sqs.fault("clock_skew", seconds=3600)
        sqs.load(50, seed=12)
        assert "clock" in exporter.wait_until_ready(ready=False)
        scrape = exporter.wait_for(lambda scrape: scrape.counted == 54)
        assert scrape.total("sqs_exporter_receive_errors_total", reason="clock_skew") >= 1
        sqs.wait_until(lambda account: account.deleted == 54)
        sqs.clear()
        sqs.load(50, seed=13)
        all_is_settled(sqs, exporter)


def an_expired_token_is_told_and_survived(ledger: Path) -> None:
    """Every operation is refused until the credentials hold again; nothing is counted twice."""
    with counting(ledger) as (sqs, exporter):
        before = sqs.account()
        sqs.fault("error", code="ExpiredTokenException")
        a_new_receive_is_made(sqs)
        sqs.load(50, seed=14)
        assert "credentials" in exporter.wait_until_ready(ready=False)
        account = sqs.wait_until(lambda account: account.faults["error"] >= 10)
        assert account.handed_out == before.handed_out
        assert exporter.healthy()
        sqs.clear()
        all_is_settled(sqs, exporter)


def a_message_handed_to_a_poll_that_sigterm_ended_comes_back(ledger: Path) -> None:
    """SIGTERM in a long poll ends it in time, and says that SQS may still hand messages to it."""
    handed_to_the_dead(ledger, signal.SIGTERM)


def a_message_handed_to_a_poll_that_sigkill_ended_comes_back(ledger: Path) -> None:
    """SQS may give messages to a poll whose client has gone."""
    handed_to_the_dead(ledger, signal.SIGKILL)


def handed_to_the_dead(ledger: Path, number: signal.Signals) -> None:
    """End an exporter in a long poll of 20 s, let SQS answer it, start another: it counts what comes back, once."""
    patient = {"VisibilityTimeout": "120"}  # a busy machine may take half a minute to start the other one
    with counting(ledger, "--shutdown.timeout", "1s", attributes=patient) as (sqs, exporter):
        sqs.behave(dead_polls_receive=True)
        started = time.monotonic()
        exporter.process.send_signal(number)
        assert exporter.wait() == (0 if number == signal.SIGTERM else -number)
        assert time.monotonic() - started < ENDS_SECONDS
        assert any("long polls abandoned" in line["msg"] for line in exporter.log) == (number == signal.SIGTERM)
        sqs.send(EVENTS)
        sqs.wait_until(lambda account: account.handed_out == 8)
        sqs.behave(dead_polls_receive=False)
        exporter.start()
        sqs.wait_until(lambda account: account.waiting_receives == 1)
        assert exporter.scrape().counted == 4
        sqs.advance(121)
        all_is_settled(sqs, exporter)
        assert exporter.scrape().duplicate == 0


def sigterm_while_deletes_are_refused_ends_in_time(ledger: Path) -> None:
    """Show that the next exporter recognises what could not be deleted, and deletes it."""
    with counting(ledger, "--shutdown.timeout", "1s", *SHORT_WAIT) as (sqs, exporter):
        sqs.fault("error", DELETES, code="ServiceUnavailable")
        sqs.send(EVENTS)
        exporter.wait_for(lambda scrape: scrape.counted == 8)
        started = time.monotonic()
        assert exporter.terminate() == 0
        assert time.monotonic() - started < ENDS_SECONDS
        sqs.clear()
        sqs.advance(31)
        exporter.start()
        exporter.wait_for(lambda scrape: scrape.duplicate == 4)
        all_is_settled(sqs, exporter)


CASES = (
    a_delete_that_is_answered_after_the_visibility_timeout_settles_nothing,
    a_receive_asks_now_and_then_whether_denied_deletes_are_allowed,
    denied_deletes_stop_the_taking_of_messages_until_they_are_allowed,
    a_message_twice_in_a_batch_counts_once,
    a_message_in_two_batches_counts_once,
    a_message_that_comes_back_after_a_confirmed_delete_counts_once,
    all_kinds_of_duplicates_and_hidden_messages_at_once_count_once,
    a_stale_handle_that_deletes_nothing_leaves_the_message_to_its_fresh_one,
    a_delete_that_is_confirmed_in_part_is_trusted_in_part,
    deletes_that_fail_in_part_for_ever_hold_nothing_up,
    a_queue_with_a_visibility_timeout_of_0_is_asked_for_a_longer_one,
    a_clock_that_differs_from_sqs_is_told_and_survived,
    an_expired_token_is_told_and_survived,
    a_message_handed_to_a_poll_that_sigterm_ended_comes_back,
    a_message_handed_to_a_poll_that_sigkill_ended_comes_back,
    sigterm_while_deletes_are_refused_ends_in_time,
)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_worst_that_sqs_may_do_is_survived(case: Case, outcome: Callable[[Case], None]) -> None:
    """See the case's own sentence."""
    outcome(case)


@pytest.mark.parametrize("case", REFUSALS, ids=name_of)
def test_a_call_that_sqs_refuses_is_tried_again_in_peace_and_told(case: Case, outcome: Callable[[Case], None]) -> None:
    """Not ready, its reason on /metrics and few calls while it lasts; afterwards all is counted once and deleted."""
    outcome(case)
