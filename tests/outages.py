"""Outages, a fault at a time, against the real program. They run side by side, because most of each is waiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter_process import ExporterProcess, Scrape
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = [f'{{"type": "purchase", "value": {value}}}' for value in ("0.1", "12.55", "-3", "1e-9")]
SHORT_WAIT = ("--sqs.wait-seconds", "1")
NOT_READY_SECONDS = 60.0
READY_AGAIN_SECONDS = 60.0
ENDS_SECONDS = 10.0
"""An exporter with `--shutdown.timeout 1s` has ended by then; the 20 s of a long poll are not waited for."""
MOST_CALLS = 40
"""A loop that backs off does not make as many in half a minute; one that spins does in a fraction of a second."""
RECEIVES, DELETES = "ReceiveMessage", "DeleteMessageBatch"


Case = Callable[[Path], None]
"""What happens on a ledger of its own, at a path where there is none yet; named after what it proves."""


@dataclass(frozen=True, eq=False)
class Fault:
    """A fault of `FakeSqs.fault` on an operation, and the reason under which it is to be counted and told."""

    operation: str
    kind: str
    reason: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def __name__(self) -> str:
        told = (f"{name}={value}" for name, value in self.options.items() if name != "message")
        return " ".join((self.operation, self.kind, *told))

    @property
    def acted(self) -> bool:
        """Whether SQS did what it was asked: these befall the answer alone."""
        return bool(self.options.get("acted")) or self.kind in {"drip", "half_closed", "truncated"}

    def __call__(self, ledger: Path) -> None:
        """Make it befall an exporter on this ledger."""
        if self.operation == RECEIVES:
            receives_fail(self, ledger)
        else:
            deletes_fail(self, ledger)


def name_of(case: Case) -> str:
    """Return what a case is called in the test's report."""
    return case.__name__


@contextmanager
def counting(
    ledger: Path, *arguments: str, attributes: dict[str, str] | None = None
) -> Iterator[tuple[FakeSqs, ExporterProcess]]:
    """Give a fake SQS and an exporter that has counted `EVENTS`, is ready, and waits in a long poll.

    `attributes` are the queue's; without `arguments` long polls are short.
    """
    with (
        FakeSqs(attributes=attributes) as sqs,
        ExporterProcess(sqs.environment, ledger, *(arguments or SHORT_WAIT)) as exporter,
    ):
        sqs.send(EVENTS)
        exporter.wait_for(lambda scrape: scrape.counted == len(EVENTS))
        exporter.wait_until_ready()
        exporter.wait_for(lambda scrape: not scrape.total("sqs_exporter_ledger_unsettled_messages"))
        sqs.wait_until(lambda account: account.deleted == len(EVENTS) and account.waiting_receives == 1)
        yield sqs, exporter


def all_is_settled(sqs: FakeSqs, exporter: ExporterProcess) -> None:
    """Wait until nothing is left in the queue or unsettled; assert that counts and sums are exactly the account's."""
    exporter.wait_until_ready(READY_AGAIN_SECONDS)
    sqs.wait_until(lambda account: account.deleted == account.sent and account.remaining == 0, READY_AGAIN_SECONDS)
    scrape = exporter.wait_for(
        lambda scrape: (
            not scrape.total("sqs_exporter_ledger_unsettled_messages")
            and scrape.counted + scrape.rejected == sqs.account().sent
        )
    )
    assert scrape.agrees_with(sqs.account())
    assert exporter.healthy()
    assert not any("Traceback" in line for line in exporter.stderr), exporter.last_lines


def a_new_receive_is_made(sqs: FakeSqs) -> None:
    """Wait for the next receive: the long poll that is open now began before the fault."""
    calls = sqs.account().calls[RECEIVES]
    sqs.wait_until(lambda account: account.calls[RECEIVES] > calls)


def told_of(scrape: Scrape, reason: str) -> float:
    """Return how often /metrics tells of the reason: as a failed receive, or as messages that it released."""
    return scrape.by("sqs_exporter_receive_errors_total", "reason").get(reason, 0) + scrape.by(
        "sqs_exporter_messages_released_total", "reason"
    ).get(reason, 0)


def receives_fail(fault: Fault, ledger: Path) -> None:
    """While receives fail nothing is counted or deleted and few are made; the reason is told; then all is counted."""
    with counting(ledger) as (sqs, exporter):
        before = sqs.account()
        sqs.fault(fault.kind, RECEIVES, **fault.options)
        a_new_receive_is_made(sqs)
        sqs.load(300, seed=1)
        sentence = exporter.wait_until_ready(NOT_READY_SECONDS, ready=False)
        assert f"receives fail ({fault.reason})" in sentence, sentence
        assert exporter.healthy(), "an outage of SQS is no reason to restart"
        # What /metrics shows may be a moment older than what /-/ready says.
        scrape = exporter.wait_for(lambda scrape: told_of(scrape, fault.reason) > 0)
        account = sqs.account()
        assert scrape.counted == len(EVENTS), f"{scrape.counted} were counted"
        assert account.deleted == len(EVENTS), f"{account.deleted} were deleted"
        calls = account.calls[RECEIVES] - before.calls[RECEIVES]
        assert 0 < calls <= MOST_CALLS, f"{calls} receives"
        sqs.clear()
        sqs.advance(31)
        all_is_settled(sqs, exporter)


def deletes_fail(fault: Fault, ledger: Path) -> None:
    """While deletes fail messages count once and none is taken for deleted, few are made; then all are deleted."""
    with counting(ledger) as (sqs, exporter):
        before = sqs.account()
        sqs.fault(fault.kind, DELETES, **fault.options)
        sqs.load(50, seed=2)
        exporter.wait_for(lambda scrape: scrape.counted == len(EVENTS) + 50)
        sentence = exporter.wait_until_ready(NOT_READY_SECONDS, ready=False)
        assert f"deletes fail ({fault.reason})" in sentence, sentence
        assert exporter.healthy(), "an outage of SQS is no reason to restart"
        scrape = exporter.wait_for(
            lambda scrape: scrape.by("sqs_exporter_message_delete_failures_total", "reason").get(fault.reason, 0) > 0
        )
        account = sqs.account()
        assert scrape.counted == len(EVENTS) + 50
        assert scrape.total("sqs_exporter_messages_deleted_total") == len(EVENTS)
        assert scrape.total("sqs_exporter_ledger_unsettled_messages") == 50
        calls = account.calls[DELETES] - before.calls[DELETES]
        assert 0 < calls <= MOST_CALLS, f"{calls} batch deletes"
        if not fault.acted:
            assert account.deleted == len(EVENTS), f"{account.deleted} were deleted"
        sqs.clear()
        all_is_settled(sqs, exporter)
