"""The memory of ids, where it takes a process or an hour: how big it gets, and what SQS may bring back when.

What it keeps, for how long and on which clock is in test_ledger.py, against a model in test_ledger_model.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from exporter_process import ExporterProcess
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'
MEGABYTE = 1_000_000
VISIBILITY_SECONDS = 2
AN_HOUR_AND_A_BIT = """
import json, os, random, sys
from pathlib import Path
from exporter.events.event import Event
from exporter.ledger import Delivery, QueueBatch, QueueIdentity
from exporter.ledger.sqlite.ledger import SqliteLedger

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

path, per_commit, minutes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
now = 1_700_000_000.0
ledger = SqliteLedger(path, wall_clock=lambda: now, monotonic=lambda: now)
ledger.bind(QueueIdentity("orders", "arn:aws:sqs:eu-central-1:123456789012:orders", 30, 345_600))
event, bytes_of = Event(("purchase",), 12_550_000_000, 5.0), random.Random(1).randbytes
before = resident_bytes()
most = [0, 0, 0]
for commit in range(minutes * 60 * 100 // per_commit):
    deliveries = [Delivery(bytes_of(16), event) for _ in range(per_commit)]
    ledger.submit({"orders": QueueBatch(deliveries)})
    assert ledger.completed().error is None
    ledger.settle("orders", [delivery.message_id for delivery in deliveries])
    ledger.advance("orders", per_commit / 100)
    now += per_commit / 100
    if commit % 500 == 0:
        sizes = (Path(path).stat().st_size, Path(f"{path}-wal").stat().st_size, ledger.snapshots["orders"].messages)
        most = [max(pair) for pair in zip(most, sizes)]
after = resident_bytes()
ledger.close()
print(json.dumps({"resident": after - before, "file": most[0], "log": most[1], "ids": most[2]}))
"""


def test_an_hour_at_100_messages_a_second_stays_below_20_megabytes(tmp_path: Path) -> None:
    """Ten messages a commit, for an hour and six minutes: 360,000 ids, and neither file nor process grow beyond it."""
    # Where there is a disk of memory: syncing 39,600 commits takes longer than all the rest, and proves nothing here.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path  # noqa: S108 - a directory is made in it
    with tempfile.TemporaryDirectory(dir=place) as directory:
        command = [sys.executable, "-c", AN_HOUR_AND_A_BIT, f"{directory}/ledger.db", "10", "66"]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert 360_000 <= measured["ids"] < 361_000
    assert measured["file"] < 20 * MEGABYTE, measured
    assert measured["log"] < 6 * MEGABYTE, measured
    assert measured["resident"] < 20 * MEGABYTE, measured


def test_a_stale_delete_that_succeeded_and_two_hours_of_downtime_count_nothing_twice(tmp_path: Path) -> None:
    """SQS confirms a delete with a stale handle and keeps the message; two hours later it is still recognised."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
        sqs.wait_until(lambda account: account.waiting_receives == 1)
        # The long poll that is open gets the message; no later one gets anything, so that its handle stays the last.
        sqs.fault("error", "ReceiveMessage", code="ThrottlingException")
        held_up = sqs.fault("error", "DeleteMessageBatch", code="ThrottlingException")
        sqs.send([EVENT])
        exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_message_delete_failures_total") > 0)
        sqs.advance(31)
        sqs.clear(held_up)
        account = sqs.wait_until(lambda account: account.stale_deletes == 1)
        assert account.deleted == 0
        exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ledger_unsettled_messages") == 0)
        exporter.kill()
        sqs.clear()
        sqs.advance(2 * 3600)
        exporter.start()
        scrape = exporter.wait_for(lambda scrape: scrape.duplicate == 1)
        assert scrape.counted == 1
        account = sqs.wait_until(lambda account: account.deleted == 1)
        assert account.remaining == 0


def test_a_message_that_is_back_two_hours_after_its_delete_counts_once(tmp_path: Path) -> None:
    """A server that was down held a copy; the exporter was down meanwhile, then busy with others, and knows it."""
    with FakeSqs(return_after_delete=1.0, return_after_seconds=7_300) as sqs:
        sqs.send([EVENT])
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
            exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_messages_deleted_total") == 1)
            exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ledger_unsettled_messages") == 0)
            exporter.kill()
            sqs.behave(return_after_delete=0.0)
            sqs.advance(7_200)
            exporter.start()
            sqs.send([EVENT] * 20)
            sqs.wait_until(lambda account: account.deleted == 21)
            sqs.advance(101)
            scrape = exporter.wait_for(lambda scrape: scrape.duplicate == 1)
            assert scrape.counted == 21
            assert sqs.wait_until(lambda account: account.remaining == 0).sent == 21


def test_a_full_memory_slows_receives_down_and_a_raised_cap_ends_that(tmp_path: Path) -> None:
    """It takes what it can remember for twice the visibility timeout, says which setting to raise, and stays exact."""
    with (
        FakeSqs(attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)}) as sqs,
        ExporterProcess(
            sqs.environment, tmp_path / "ledger.db", "--ledger.max-ids", "1000", "--sqs.wait-seconds", "1"
        ) as exporter,
    ):
        sqs.load(6_000, seed=8)
        exporter.wait_for(lambda scrape: scrape.counted >= 500)
        assert "--ledger.max-ids 1000" in exporter.wait_until_ready(ready=False)
        rates = []
        for _ in range(2):
            before, since = exporter.scrape().counted, time.monotonic()
            time.sleep(3 * VISIBILITY_SECONDS)  # a rate takes its time
            scrape = exporter.scrape()
            rates.append((scrape.counted - before) / (time.monotonic() - since))
            assert scrape.total("sqs_exporter_ledger_messages") <= 1_000
        limit = 1_000 / (2 * VISIBILITY_SECONDS)
        assert all(0.4 * limit < rate < 1.2 * limit for rate in rates), rates
        assert exporter.healthy()
        assert exporter.terminate() == 0
        exporter.arguments = ("--ledger.max-ids", "50000")
        exporter.start()
        exporter.wait_until_ready()
        account = sqs.wait_until(lambda account: account.deleted == 6_000)
        assert exporter.scrape().agrees_with(account)
