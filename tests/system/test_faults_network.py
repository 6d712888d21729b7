"""A network at its worst, to the running program: nothing is lost or doubled, and it comes back by itself."""

from __future__ import annotations

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
    NOT_READY_SECONDS,
    RECEIVES,
    SHORT_WAIT,
    Case,
    Fault,
    all_is_settled,
    counting,
    name_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CUTS = (
    Fault(RECEIVES, "black_hole", "timeout"),
    Fault(DELETES, "black_hole", "timeout"),
    Fault(DELETES, "black_hole", "timeout", {"acted": True}),
    Fault(RECEIVES, "reset", "connection"),
    Fault(RECEIVES, "reset", "connection", {"acted": True}),
    Fault(DELETES, "reset", "connection"),
    Fault(DELETES, "reset", "connection", {"acted": True}),
)


def a_partition_that_refuses_is_survived(ledger: Path) -> None:
    """Show it for connections that are reset, and new ones that are refused."""
    partitioned(ledger, "connection", silent=False)


def a_partition_that_says_nothing_is_survived(ledger: Path) -> None:
    """Show it for connections that stay open, and new ones that are accepted, without an answer."""
    partitioned(ledger, "timeout", silent=True)


def partitioned(ledger: Path, reason: str, *, silent: bool) -> None:
    """Cut the network in the middle of a backlog, and join it again: few calls fail, with their reason."""
    with counting(ledger) as (sqs, exporter):
        # Some hundred messages a second: there is a backlog left when the network is cut, on a busy machine too.
        sqs.behave(latency_seconds=0.2)
        sqs.load(5_000, seed=16)
        exporter.wait_for(lambda scrape: scrape.counted > 500)
        sqs.partition(silent=silent)
        exporter.wait_until_ready(NOT_READY_SECONDS, ready=False)
        assert exporter.healthy(), "an outage of SQS is no reason to restart"
        scrape = exporter.wait_for(
            lambda scrape: scrape.total("sqs_exporter_receive_errors_total", reason=reason) > 0, NOT_READY_SECONDS
        )
        assert scrape.total("sqs_exporter_receive_errors_total") <= MOST_CALLS
        assert scrape.counted < 5_000
        sqs.heal()
        sqs.behave(latency_seconds=0)
        sqs.advance(31)
        all_is_settled(sqs, exporter)


def a_start_in_a_partition_waits_for_its_end(ledger: Path) -> None:
    """Show that it listens, says what is wrong, tries seldom, and counts as soon as there is a network."""
    with FakeSqs() as sqs:
        sqs.send(EVENTS)
        sqs.partition()
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
            exporter.wait_for(lambda _: "can't be reached" in exporter.ready()[1])
            assert exporter.healthy()
            assert len([line for line in exporter.log if line["msg"] == "waiting for the queue"]) == 1
            sqs.heal()
            all_is_settled(sqs, exporter)


def a_drip_while_the_queue_is_looked_for_has_an_end(ledger: Path) -> None:
    """Show that a byte a second holds up no more than one try: botocore's own timeouts would never strike."""
    with FakeSqs() as sqs:
        sqs.send(EVENTS)
        sqs.fault("drip", "GetQueueAttributes", times=1, bytes_per_second=1)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
            exporter.wait_for(
                lambda _: any("did not answer in time" in str(line.get("error")) for line in exporter.log)
            )
            assert exporter.healthy()
            all_is_settled(sqs, exporter)


def connections_that_are_reset_again_and_again_lose_nothing(ledger: Path) -> None:
    """Show it in the middle of calls of every kind."""
    with counting(ledger) as (sqs, exporter):
        sqs.behave(latency_seconds=0.02)
        sqs.load(2_000, seed=17)
        for goal in range(200, 1_801, 200):
            exporter.wait_for(lambda scrape, goal=goal: scrape.counted >= goal)  # type: ignore[misc]  # see B023
            sqs.reset_connections()
            sqs.advance(31)
        sqs.behave(latency_seconds=0)
        sqs.advance(31)
        all_is_settled(sqs, exporter)


def messages_given_to_a_connection_that_is_gone_come_back(ledger: Path) -> None:
    """Show that the exporter asks anew at once, and counts what a dead poll took when its timeout is over."""
    with counting(ledger, "--sqs.wait-seconds", "20") as (sqs, exporter):
        sqs.behave(dead_polls_receive=True)
        sqs.reset_connections()
        sqs.wait_until(lambda account: account.waiting_receives == 2)
        sqs.send(EVENTS)
        sqs.wait_until(lambda account: account.handed_out == 8)
        assert exporter.scrape().counted == 4
        sqs.advance(31)
        all_is_settled(sqs, exporter)
        assert exporter.scrape().duplicate == 0


def sigterm_in_a_partition_ends_in_time(ledger: Path) -> None:
    """Show that calls which nobody answers hold up no shutdown, and that nothing counted is lost."""
    with counting(ledger, "--sqs.wait-seconds", "20", "--shutdown.timeout", "1s") as (sqs, exporter):
        sqs.partition(silent=True)
        started = time.monotonic()
        assert exporter.terminate() == 0
        assert time.monotonic() - started < ENDS_SECONDS
        sqs.heal()
        exporter.start()
        assert exporter.scrape().counted == len(EVENTS)
        sqs.send(EVENTS)
        all_is_settled(sqs, exporter)


CASES = (
    a_drip_while_the_queue_is_looked_for_has_an_end,
    a_partition_that_says_nothing_is_survived,
    a_partition_that_refuses_is_survived,
    a_start_in_a_partition_waits_for_its_end,
    connections_that_are_reset_again_and_again_lose_nothing,
    messages_given_to_a_connection_that_is_gone_come_back,
    sigterm_in_a_partition_ends_in_time,
)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_worst_that_a_network_may_do_is_survived(case: Case, outcome: Callable[[Case], None]) -> None:
    """See the case's own sentence."""
    outcome(case)


@pytest.mark.parametrize("case", CUTS, ids=name_of)
def test_a_call_that_is_cut_off_is_made_anew_and_told(case: Case, outcome: Callable[[Case], None]) -> None:
    """Not ready, its reason on /metrics and few calls while it lasts; afterwards all is counted once and deleted."""
    outcome(case)
