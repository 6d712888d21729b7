"""What befalls the process and not SQS: it is stopped for a while, its clock is slow, its limits are low."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from outages import SHORT_WAIT, Case, all_is_settled, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55}'
PAUSE_SECONDS = 16.0
WINDOW = ("--ledger.window", "12s")
"""Shorter than the pause; longer than what one receive, of at most 6 s, may add to the ledger's clock."""
DESCRIPTORS_NEEDED = 192
AMPLE_MEGABYTES = 512


def paused(exporter: ExporterProcess) -> None:
    """Stop the process, as a suspended machine or a frozen container does, for longer than ids are remembered."""
    exporter.process.send_signal(signal.SIGSTOP)
    time.sleep(PAUSE_SECONDS)
    exporter.process.send_signal(signal.SIGCONT)


def a_pause_forgets_nothing_on_an_idle_queue(ledger: Path) -> None:
    """Let deleted messages come back right after a pause longer than the window: each is known, and counted once."""
    with (
        FakeSqs(attributes={"VisibilityTimeout": "5"}) as sqs,
        ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, *WINDOW) as exporter,
    ):
        sqs.behave(return_after_delete=1.0, return_after_seconds=PAUSE_SECONDS)
        sqs.load(1_000, seed=1)
        sqs.wait_until(lambda account: account.deleted == 1_000)
        sqs.behave(return_after_delete=0.0)
        paused(exporter)
        scrape = exporter.wait_for(lambda scrape: scrape.received == 2_000)
        assert (scrape.counted, scrape.duplicate) == (1_000, 1_000)
        all_is_settled(sqs, exporter)


def a_pause_forgets_nothing_under_load(ledger: Path) -> None:
    """Stop it twice in the middle of a backlog, with messages in flight and deletes under way."""
    with (
        FakeSqs(attributes={"VisibilityTimeout": "5"}) as sqs,
        ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, *WINDOW) as exporter,
    ):
        sqs.behave(return_after_delete=0.2, return_after_seconds=PAUSE_SECONDS)
        for number in range(2):
            sqs.load(5_000, seed=number)
            sqs.wait_until(lambda account: account.deleted > 5_000 * number + 500)  # noqa: B023 - called at once
            paused(exporter)
        sqs.behave(return_after_delete=0.0)
        exporter.wait_for(lambda scrape: scrape.counted == 10_000)
        sqs.wait_until(lambda account: account.deleted == 10_000 and account.remaining == 0)
        # A delete that was answered during a pause is no proof: its id stays unsettled, and is remembered for longer.
        # What SQS sent into a receive that was given up during a pause never arrived, and comes again.
        scrape = exporter.wait_for(lambda scrape: scrape.counted == 10_000 and scrape.duplicate > 500)
        assert scrape.agrees_with(sqs.account())
        assert scrape.received <= sqs.account().deliveries
        assert exporter.ready()[0]


def a_slow_clock_rejects_no_good_event(ledger: Path) -> None:
    """Judge what is ahead by the message's own SentTimestamp: this machine may be ten minutes behind."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, "--events.require-timestamp", "true") as exporter:
        sqs.advance(600)
        now = time.time() + 600
        happened = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S")
        ahead = datetime.fromtimestamp(now + 600, UTC).strftime("%Y-%m-%d %H:%M:%S")
        good, wrong = ({"type": "purchase", "value": 1, "occurred_at": at} for at in (happened, ahead))
        sqs.send([json.dumps(good)] * 50 + [json.dumps(wrong)])
        scrape = exporter.wait_for(lambda scrape: scrape.received == 51)
        assert scrape.counted == 50
        assert scrape.total("sqs_exporter_messages_rejected_total", reason="invalid_timestamp") == 1


def too_few_descriptors_are_refused(ledger: Path) -> None:
    """Say how many are needed, and count and be scraped with exactly as many."""
    with FakeSqs() as sqs:
        few = ExporterProcess(sqs.environment, ledger, through=["prlimit", "--nofile=40", "--"], start=False)
        few.launch()
        assert few.wait() == 1
        assert f"may have 40 files open, and 16 receives at once need {DESCRIPTORS_NEEDED}" in few.stderr[-1]
        assert f"(ulimit -n {DESCRIPTORS_NEEDED})" in few.stderr[-1]
        enough = ["prlimit", f"--nofile={DESCRIPTORS_NEEDED}", "--"]
        sqs.load(5_000, seed=2)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, through=enough) as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 5_000)
            all_is_settled(sqs, exporter)
            assert not any(line["level"] in {"warning", "error"} for line in exporter.log[2:]), exporter.last_lines


def out_of_memory_at_the_start_is_a_sentence(ledger: Path) -> None:
    """Whatever it was about to do: no traceback, and what to raise. It is never taken for SQS's silence."""
    told = []
    with FakeSqs() as sqs:
        for megabytes in (30, 60, 90, 120, AMPLE_MEGABYTES):
            limit = ["prlimit", f"--as={megabytes << 20}", "--"]
            with ExporterProcess(sqs.environment, ledger, through=limit, start=False) as exporter:
                exporter.launch(PYTHONFAULTHANDLER="1")
                if not ready_or_out_of_memory(exporter):
                    assert python_hangs(exporter), exporter.last_lines
                    continue
                if exporter.exit_code is not None:
                    assert exporter.wait() == 1
                    assert "this process gets no more memory or threads: raise its limits" in exporter.stderr[-1]
                told.append(exporter.exit_code)
                assert not any("Traceback" in line for line in exporter.stderr), exporter.last_lines
    assert told[0] == 1
    assert told[-1] is None


def ready_or_out_of_memory(exporter: ExporterProcess) -> bool:
    """Wait until it is ready, says that it is out of memory, or has ended; False: none of that within a minute."""
    deadline = time.monotonic() + 60
    while exporter.running:
        if any("ready" in line["msg"] or "no more memory" in str(line.get("error")) for line in exporter.log):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def python_hangs(exporter: ExporterProcess) -> bool:
    """Tell whether it is Python that hangs, without memory: where a thread begins, or unwinding a failed import.

    https://github.com/python/cpython/issues/140746 and https://github.com/python/cpython/issues/132508
    """
    exporter.process.send_signal(signal.SIGABRT)
    exporter.wait()
    stack = [line for line in exporter.stderr if line.startswith("  File ")]
    starts_a_thread = any("threading.py" in line and line.endswith(" in start") for line in stack)
    return starts_a_thread or "importlib._bootstrap" in "".join(stack[:1])


CASES = (
    a_pause_forgets_nothing_under_load,
    a_pause_forgets_nothing_on_an_idle_queue,
    a_slow_clock_rejects_no_good_event,
    too_few_descriptors_are_refused,
    out_of_memory_at_the_start_is_a_sentence,
)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_befalls_the_process_is_survived_and_told(case: Case, outcome: Callable[[Case], None]) -> None:
    """See the case's own sentence."""
    outcome(case)
