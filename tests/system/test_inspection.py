"""What `check` and `peek` tell a person, and that they leave queue and ledger as they were."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from exporter_process import INHERITED, PROGRAM
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from collections.abc import Iterator

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
