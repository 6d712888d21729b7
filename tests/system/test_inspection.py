"""What `check` and `peek` tell a person, and that they leave queue and ledger as they were."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from exporter_process import INHERITED, PROGRAM, ExporterProcess
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'


@pytest.fixture
def sqs() -> Iterator[FakeSqs]:
    """Give each test a queue of its own."""
    with FakeSqs() as server:
        yield server


def command(sqs: FakeSqs, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment = {**inherited, **sqs.environment}
    return subprocess.run(
        [str(PROGRAM), *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_check_finds_settings_queue_and_no_ledger_yet(sqs: FakeSqs, tmp_path: Path) -> None:
    """All is well before the first run: exit code 0, the queue's ARN is named, and no ledger is made."""
    done = command(sqs, "check", "--queue", "events", "--ledger.path", str(tmp_path / "ledger.db"))
    assert done.returncode == 0, done.stderr
    assert sqs.queue_arn in done.stdout
    assert "not there yet" in done.stdout
    assert not list(tmp_path.iterdir())


def test_check_reads_a_ledger_and_sees_a_running_exporter(sqs: FakeSqs, tmp_path: Path) -> None:
    """Beside a running exporter the ledger is in use, which is no fault; after it, what it holds is said."""
    flags = ("--queue", "events", "--ledger.path", str(tmp_path / "ledger.db"))
    sqs.send([EVENT] * 2)
    with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
        exporter.wait_for(lambda scrape: scrape.counted == 2)
        assert "in use" in command(sqs, "check", *flags).stdout
        exporter.terminate()
    assert "holds 2 events" in command(sqs, "check", *flags).stdout


def test_check_names_a_queue_that_is_not_there(sqs: FakeSqs, tmp_path: Path) -> None:
    """A missing queue is one sentence and exit code 1."""
    done = command(sqs, "check", "--queue", "nowhere", "--ledger.path", str(tmp_path / "ledger.db"))
    assert done.returncode == 1
    assert '"nowhere"' in done.stderr
    assert "does not exist" in done.stderr


def test_peek_shows_how_messages_would_be_counted_and_leaves_them(sqs: FakeSqs) -> None:
    """An event and a rejection are shown without their bodies, and both can be received again at once."""
    sqs.send([EVENT, '{"type": "secret-body"}'])
    done = command(sqs, "peek", "--queue", "events", "--count", "5")
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.pop("message_id") for line in shown)
    assert {"type": "purchase", "value": 12.55, "occurred_at_seconds": 1601978525.0} in shown
    assert {"rejected": "missing_field", "field": "value", "held": "absent"} in shown
    assert "secret-body" not in done.stdout
    account = sqs.account()
    assert (account.available, account.in_flight, account.deleted) == (2, 0, 0)


def test_peek_reads_events_as_the_settings_say(sqs: FakeSqs) -> None:
    """Fields and labels are those of the settings; a rejection names the field and what kind of value it held."""
    sqs.send(['{"order": {"total": "12.5"}, "kind": "a", "currency": "EUR"}', '{"order": {"total": []}, "kind": "b"}'])
    flags = ("--events.type-field", "kind", "--events.value-field", "order.total", "--events.labels", "currency")
    done = command(sqs, "peek", "--queue", "events", *flags)
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.pop("message_id") for line in shown)
    counted = {"type": "a", "labels": {"currency": "EUR"}, "value": 12.5, "occurred_at_seconds": None}
    rejected = {"rejected": "invalid_value", "field": "order.total", "held": "array"}
    assert sorted(shown, key=str) == sorted([counted, rejected], key=str)
