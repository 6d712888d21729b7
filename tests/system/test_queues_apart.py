"""No queue holds up another: beside one in whatever trouble, an event of a good one is counted within a second."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from outages import Case, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55}'
GOOD, TROUBLED = "good", "troubled"
EVENTS = 5
COUNTED_SECONDS = 1.0
BUSY_FACTOR = 3
"""How much longer most may take on a machine that is busy with other work; one of them has to be in time."""
BACKLOG = 1_000_000
RECEIVES, DELETES = "ReceiveMessage", "DeleteMessageBatch"


def apart(
    ledger: Path,
    trouble: Callable[[FakeSqs], None],
    *flags: str,
    why: str = "",
    queue: str = TROUBLED,
) -> None:
    """Count a good queue beside one in trouble: each event soon, and exactly.

    `why` is what /-/ready is to say of the troubled queue; empty: it is ready, too.
    """
    with FakeSqs(queue_name=GOOD) as sqs:
        sqs.create_queue(TROUBLED)
        trouble(sqs)
        with ExporterProcess(sqs.environment, ledger, *flags, queue=f"{queue},{GOOD}") as exporter:
            exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ready", queue=GOOD) == 1)
            took_seconds = [counted_after_seconds(sqs, exporter, number) for number in range(1, EVENTS + 1)]
            # A queue that is held up would be late every time.
            assert min(took_seconds) < COUNTED_SECONDS, took_seconds
            assert median(took_seconds) < BUSY_FACTOR * COUNTED_SECONDS, took_seconds
            sentence = exporter.wait_until_told(why or "Ready.")
            assert not why or sentence.startswith(f"Ready, but 1 of 2 queues: {TROUBLED}: "), sentence
            assert exporter.ready()[0]
            scrape = exporter.scrape()
            assert scrape.total("sqs_exporter_ready", queue=GOOD) == 1
            assert scrape.total("sqs_exporter_ready", queue=TROUBLED) == (not why)
            assert scrape.total("sqs_exporter_messages_duplicate_total", queue=GOOD) == 0
            sqs.wait_until(lambda _: sqs.account(GOOD).deleted == EVENTS)
            assert exporter.terminate() == 0, "nor does it hold up the end"
            assert not any("Traceback" in line for line in exporter.stderr), exporter.last_lines


def counted_after_seconds(sqs: FakeSqs, exporter: ExporterProcess, number: int) -> float:
    """Send the good queue's event of this number into its open long poll; return how long it took to be counted."""
    sqs.wait_until(lambda _: sqs.account(GOOD).waiting_receives > 0)
    started = time.monotonic()
    sqs.send([EVENT], queue_name=GOOD)
    exporter.wait_for(lambda scrape: scrape.total("sqs_events_total", queue=GOOD) == number)
    return time.monotonic() - started


def a_backlog(ledger: Path) -> None:
    """One that lasts: it is still there when the other queue's events are counted."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.load(BACKLOG, seed=1, queue_name=TROUBLED)

    apart(ledger, trouble)


def a_backlog_of_what_is_no_event(ledger: Path) -> None:
    """Rejecting costs more than counting: it is logged."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.load(BACKLOG, seed=2, invalid_fraction=1.0, queue_name=TROUBLED)

    apart(ledger, trouble)


def a_backlog_with_few_receives(ledger: Path) -> None:
    """Show that each queue has a receive of its own even where one receive is all that is allowed."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.load(BACKLOG, seed=3, queue_name=TROUBLED)

    apart(ledger, trouble, "--sqs.max-receives", "1")


def receives_that_are_throttled(ledger: Path) -> None:
    """Only that queue's next receives wait."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("error", RECEIVES, queue_name=TROUBLED, code="RequestThrottled")

    apart(ledger, trouble, why="receives fail (throttled)")


def every_call_denied(ledger: Path) -> None:
    """Neither looked at nor received from."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("error", queue_name=TROUBLED, code="AccessDeniedException")

    apart(ledger, trouble, why="may not")


def receives_that_are_denied(ledger: Path) -> None:
    """Let housekeeping look at it, but nobody receive from it."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("error", RECEIVES, queue_name=TROUBLED, code="AccessDeniedException")

    apart(ledger, trouble, why="receives fail (access_denied)")


def deletes_that_are_denied(ledger: Path) -> None:
    """No more of that queue's messages are taken; those of the other are."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("error", DELETES, queue_name=TROUBLED, code="AccessDeniedException")
        sqs.load(100, seed=4, queue_name=TROUBLED)

    apart(ledger, trouble, why="SQS denies sqs:DeleteMessage")


def deletes_that_are_never_answered(ledger: Path) -> None:
    """Their calls stay open until they are given up."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("black_hole", DELETES, queue_name=TROUBLED)
        sqs.load(5_000, seed=5, queue_name=TROUBLED)

    apart(ledger, trouble, "--shutdown.timeout", "1s", why="deletes fail (timeout)")


def a_queue_that_does_not_exist(ledger: Path) -> None:
    """Wait for it, and count the other meanwhile."""
    apart(ledger, lambda sqs: sqs.delete_queue(TROUBLED), why="does not exist")


def a_region_that_does_not_answer(ledger: Path) -> None:
    """Housekeeping's calls and receives alike: every request about that queue meets silence."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("black_hole", queue_name=TROUBLED)

    url = f"https://sqs.eu-west-1.amazonaws.com/123456789012/{TROUBLED}"
    apart(ledger, trouble, why="did not answer in time", queue=url)


def receives_that_are_never_answered(ledger: Path) -> None:
    """Let it be found, and then every receive from it meet silence."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("black_hole", RECEIVES, queue_name=TROUBLED)

    apart(ledger, trouble, "--shutdown.timeout", "1s", why="receives fail (timeout)")


def attributes_that_never_come(ledger: Path) -> None:
    """Housekeeping waits for them; nothing else does."""

    def trouble(sqs: FakeSqs) -> None:
        sqs.fault("black_hole", "GetQueueAttributes", queue_name=TROUBLED)

    apart(ledger, trouble, why="no receive has succeeded yet")


BUSY = (a_backlog, a_backlog_of_what_is_no_event, a_backlog_with_few_receives)
QUIET = (
    a_region_that_does_not_answer,
    receives_that_are_never_answered,
    deletes_that_are_never_answered,
    attributes_that_never_come,
    receives_that_are_throttled,
    receives_that_are_denied,
    every_call_denied,
    deletes_that_are_denied,
    a_queue_that_does_not_exist,
)


@pytest.mark.parametrize("case", QUIET, ids=name_of)
def test_no_queue_holds_up_another(case: Case, outcome: Callable[[Case], None]) -> None:
    """See the case's own sentence."""
    outcome(case)


@pytest.mark.parametrize("case", BUSY, ids=name_of)
def test_no_queue_holds_up_another_by_work(case: Case, tmp_path: Path) -> None:
    """See the case's own sentence; one after the other, as each wants all of the machine."""
    case(tmp_path / "ledger.db")
