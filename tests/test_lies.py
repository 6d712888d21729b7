"""Answers that lie, to the running program: none counts, deletes, hangs or spins, and each has its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from outages import DELETES, RECEIVES, Case, a_new_receive_is_made, all_is_settled, counting, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CASES = (
    Case(RECEIVES, "truncated", "malformed"),
    Case(RECEIVES, "html", "malformed"),
    Case(RECEIVES, "empty_object", "empty_early"),
    Case(RECEIVES, "empty_object", "empty_early", {"acted": True}),
    Case(RECEIVES, "empty_body", "malformed"),
    Case(RECEIVES, "wrong_md5", "md5_mismatch"),
    Case(RECEIVES, "missing_field", "malformed", {"field": "MD5OfBody"}),
    Case(RECEIVES, "missing_field", "malformed", {"field": "ReceiptHandle"}),
    Case(RECEIVES, "redirect", "redirect"),
    Case(RECEIVES, "half_closed", "connection"),
    Case(RECEIVES, "drip", "timeout", {"bytes_per_second": 1}),
    Case(DELETES, "truncated", "malformed"),
    Case(DELETES, "html", "malformed"),
    Case(DELETES, "empty_object", "unconfirmed"),
    Case(DELETES, "empty_object", "unconfirmed", {"acted": True}),
    Case(DELETES, "redirect", "redirect"),
    Case(DELETES, "half_closed", "connection"),
    Case(DELETES, "drip", "timeout", {"bytes_per_second": 1}),
)


@pytest.fixture(scope="module")
def lie(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], None]]:
    """Give what waits for a case's end; all run side by side."""
    yield from side_by_side(request, tmp_path_factory)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_that_lies_counts_and_settles_nothing_and_is_told(case: Case, lie: Callable[[Case], None]) -> None:
    """Not ready, its reason on /metrics and few calls while it lasts; afterwards all is counted once and deleted."""
    lie(case)


def test_one_unusable_message_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    """It is released with its reason and counted when it comes back whole; the others count at once."""
    with counting(tmp_path / "ledger.db") as (sqs, exporter):
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


def test_fields_that_nobody_knows_change_nothing(tmp_path: Path) -> None:
    """SQS may add to its answers at any time."""
    with counting(tmp_path / "ledger.db") as (sqs, exporter):
        sqs.fault("extra_fields")
        a_new_receive_is_made(sqs)
        sqs.load(50, seed=4, invalid_fraction=0.2)
        all_is_settled(sqs, exporter)
        assert sqs.account().faults["extra_fields"] >= 5
        assert exporter.scrape().released == 0
