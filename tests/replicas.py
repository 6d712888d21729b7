"""Several exporters on one ledger in PostgreSQL: which of them speaks, and when all that was sent is counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter_process import ExporterProcess, Scrape
    from fake_sqs import Account, FakeSqs

DEADLINE_SECONDS = 120.0


def speaker_of(replicas: Sequence[ExporterProcess]) -> tuple[ExporterProcess, Scrape] | None:
    """Return the replica that shows what the ledger keeps, and what it shows; None: for the moment none does."""
    for one in replicas:
        try:
            scrape = one.scrape()
        except OSError:
            continue
        if scrape.total("sqs_exporter_speaker") == 1:
            return one, scrape
        assert scrape.received == 0
    return None


def wait_for_speaker(replicas: Sequence[ExporterProcess]) -> ExporterProcess:
    """Wait until one speaks; returns it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := speaker_of(replicas)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found[0]


def drain(sqs: FakeSqs, replicas: Sequence[ExporterProcess], visibility_timeout_seconds: float = 30.0) -> Account:
    """Wait until every message is deleted; what a killed replica was given comes back first."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return sqs.wait_until(lambda account: account.remaining == 0, 3.0)
        except TimeoutError:
            last_lines = "\n".join(one.last_lines for one in replicas)
            assert time.monotonic() < deadline, f"{sqs.account()}\n{last_lines}"
            sqs.advance(visibility_timeout_seconds)


def shown_at_last(replicas: Sequence[ExporterProcess], account: Account) -> Scrape:
    """Wait until the speaker shows as many events as were sent; returns what it shows."""
    sent = sum(totals.count for totals in account.types.values())
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = speaker_of(replicas)
        if found is not None and found[1].counted >= sent:
            return found[1]
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
