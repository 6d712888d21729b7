"""Answers that lie, to the running program: none counts, deletes, hangs or spins, and each has its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from outages import (
    DELETES,
    RECEIVES,
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

LIES = (
    Fault(RECEIVES, "drip", "timeout", {"bytes_per_second": 1}),
    Fault(DELETES, "drip", "timeout", {"bytes_per_second": 1}),
    Fault(RECEIVES, "truncated", "malformed"),
    Fault(RECEIVES, "html", "malformed"),
    Fault(RECEIVES, "empty_object", "empty_early"),
    Fault(RECEIVES, "empty_object", "empty_early", {"acted": True}),
    Fault(RECEIVES, "wrong_md5", "md5_mismatch"),
    Fault(RECEIVES, "missing_field", "malformed", {"field": "ReceiptHandle"}),
    Fault(RECEIVES, "redirect", "redirect"),
    Fault(RECEIVES, "half_closed", "connection"),
    Fault(DELETES, "truncated", "malformed"),
    Fault(DELETES, "empty_object", "unconfirmed"),
    Fault(DELETES, "empty_object", "unconfirmed", {"acted": True}),
    Fault(DELETES, "redirect", "redirect"),
    Fault(DELETES, "half_closed", "connection"),
)


def one_unusable_message_leaves_its_neighbours_alone(ledger: Path) -> None:
    """Show that it is released with its reason and counts when it comes back whole; the others count at once."""
    with counting(ledger) as (sqs, exporter):
        sqs.fault("wrong_md5", times=1, only_first=True)
        a_new_receive_is_made(sqs)
        sqs.load(10, seed=3)
        exporter.wait_for(lambda scrape: (scrape.counted, scrape.released) == (13, 1))
        sqs.fault("missing_field", times=1, only_first=True, field="Body")
        a_new_receive_is_made(sqs)
        sqs.load(10, seed=4)
        scrape = exporter.wait_for(lambda scrape: (scrape.counted, scrape.released) == (22, 2))
        released = scrape.by("sqs_exporter_messages_released_total", "reason")
        assert (released["md5_mismatch"], released["malformed"]) == (1, 1)
        assert exporter.ready()[0]
        sqs.wait_until(lambda account: account.deleted == 22)
        sqs.advance(31)
        all_is_settled(sqs, exporter)


def fields_that_nobody_knows_change_nothing(ledger: Path) -> None:
    """SQS may add to its answers at any time."""
    with counting(ledger) as (sqs, exporter):
        sqs.fault("extra_fields")
        a_new_receive_is_made(sqs)
        sqs.load(50, seed=4, invalid_fraction=0.2)
        all_is_settled(sqs, exporter)
        assert sqs.account().faults["extra_fields"] >= 5
        assert exporter.scrape().released == 0


@pytest.mark.parametrize("case", LIES, ids=name_of)
def test_an_answer_that_lies_counts_and_settles_nothing_and_is_told(
    case: Case, outcome: Callable[[Case], None]
) -> None:
    """Not ready, its reason on /metrics and few calls while it lasts; afterwards all is counted once and deleted."""
    outcome(case)


@pytest.mark.parametrize(
    "case",
    [one_unusable_message_leaves_its_neighbours_alone, fields_that_nobody_knows_change_nothing],
    ids=name_of,
)
def test_an_answer_that_is_odd_in_part_is_taken_as_far_as_it_is_sound(
    case: Case, outcome: Callable[[Case], None]
) -> None:
    """See the case's own sentence."""
    outcome(case)
