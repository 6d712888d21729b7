"""The two answers to "is it well": ready only while SQS answers, healthy for as long as the loop goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from exporter_process import POLL_SECONDS
from outages import EVENTS, READY_AGAIN_SECONDS, RECEIVES, Case, all_is_settled, counting, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter_process import ExporterProcess
    from fake_sqs import FakeSqs

USUAL_WAIT = ("--sqs.wait-seconds", "20")
WITHIN_SECONDS = 30
ASKING = (RECEIVES, "GetQueueUrl", "GetQueueAttributes")


def silence_is_noticed_within_30_s(ledger: Path) -> None:
    """Show it with the usual wait of 20 s: no receive is answered."""
    notices(ledger, lambda sqs: sqs.fault("black_hole", ASKING))


def a_drip_is_noticed_within_30_s(ledger: Path) -> None:
    """Show it with the usual wait of 20 s: a byte a second, so that no timeout between bytes ever strikes."""
    notices(ledger, lambda sqs: sqs.fault("drip", RECEIVES, bytes_per_second=1))


def refusal_is_noticed_within_30_s(ledger: Path) -> None:
    """Show it with the usual wait of 20 s: connections are reset and refused."""
    notices(ledger, lambda sqs: sqs.partition())


def notices(ledger: Path, fail: Callable[[FakeSqs], object]) -> None:
    """Measure from the last sign of life to not ready; let SQS come back, and see that the exporter does."""
    with counting(ledger, *USUAL_WAIT) as (sqs, exporter):
        fail(sqs)
        # The first is the answer to the long poll that is open; the second may be that of the next one.
        sqs.send(EVENTS[:1])
        sqs.wait_until(lambda account: account.waiting_receives == 1 or bool(account.faults) or not account.connections)
        sqs.send(EVENTS[1:])
        assert seconds_of_silence(exporter) <= WITHIN_SECONDS
        sqs.clear()
        sqs.heal()
        sqs.reset_connections()
        sqs.advance(31)
        healed = time.monotonic()
        exporter.wait_until_ready(READY_AGAIN_SECONDS)
        assert time.monotonic() - healed <= WITHIN_SECONDS
        all_is_settled(sqs, exporter)


def seconds_of_silence(exporter: ExporterProcess) -> float:
    """Wait until it is not ready, healthy all the while; return how long after its last successful receive that is."""
    deadline = time.monotonic() + 2 * WITHIN_SECONDS
    while exporter.ready()[0]:
        assert exporter.healthy(), "an outage of SQS is no reason to restart"
        assert time.monotonic() < deadline, exporter.ready()
        time.sleep(POLL_SECONDS)
    noticed = time.time()
    scrape = exporter.scrape()
    assert scrape.total("sqs_exporter_ready") == 0
    return noticed - scrape.total("sqs_exporter_last_successful_receive_timestamp_seconds")


@pytest.mark.parametrize(
    "case",
    [silence_is_noticed_within_30_s, a_drip_is_noticed_within_30_s, refusal_is_noticed_within_30_s],
    ids=name_of,
)
def test_an_outage_makes_it_not_ready_and_never_unhealthy(case: Case, outcome: Callable[[Case], None]) -> None:
    """Within 30 s of the last sign of life from SQS, and back by itself."""
    outcome(case)
