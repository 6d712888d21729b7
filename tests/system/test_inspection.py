"""What `peek` tells a person, and that it gives every message back."""

from __future__ import annotations

import json
import os
import signal
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


DEAD = "arn:aws:sqs:us-east-1:123456789012:dead"


def test_peek_says_beforehand_that_a_look_counts_as_a_receive(sqs: FakeSqs) -> None:
    """Where no redrive policy makes something of it, that is said, and it looks."""
    sqs.send([EVENT])
    done = command(sqs, "peek", "--queue", "events")
    assert done.returncode == 0
    assert "each message that peek shows counts as received once more: events has no redrive policy" in done.stderr


def test_peek_refuses_a_queue_with_a_redrive_policy_without_force(sqs: FakeSqs) -> None:
    """Exit code 1, a sentence that says after how many looks a message is moved, and no receive is made."""
    sqs.create_queue("dead")
    sqs.create_queue(attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": DEAD, "maxReceiveCount": 3})})
    sqs.send([EVENT])
    done = command(sqs, "peek", "--queue", "events")
    assert (done.returncode, done.stdout) == (1, "")
    assert "moves a message to dead when it was received 3 times" in done.stderr
    assert "ReceiveMessage" not in sqs.account().calls
    done = command(sqs, "peek", "--queue", "events", "--force")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert sqs.account().available == 1


def test_peek_says_so_when_the_queue_is_empty(sqs: FakeSqs) -> None:
    """Silence would look like a failure."""
    done = command(sqs, "peek", "--queue", "events")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no message is visible in events now" in done.stderr


@pytest.mark.parametrize(
    ("operation", "code", "sentence"),
    [
        ("GetQueueUrl", 1, "grant sqs:GetQueueUrl"),
        ("ReceiveMessage", 1, "grant sqs:ReceiveMessage on it"),
        ("GetQueueAttributes", 1, "without --force: its attributes may not be read"),
        ("ChangeMessageVisibilityBatch", 0, "grant sqs:ChangeMessageVisibility"),
    ],
)
def test_a_denial_is_a_sentence(sqs: FakeSqs, operation: str, code: int, sentence: str) -> None:
    """With the permissions of run it shows messages; what can't be given back is said, with the time it takes."""
    sqs.send([EVENT])
    sqs.fault("error", operation, code="AccessDenied", status=403)
    done = command(sqs, "peek", "--queue", "events")
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    if code == 0:
        assert "they are visible again after 30 s" in done.stderr
        assert len(done.stdout.splitlines()) == 1


def test_a_reader_that_goes_away_leaves_no_message_behind(sqs: FakeSqs) -> None:
    """`peek | head -1` gives back what it received before the pipe was closed."""
    sqs.send([EVENT] * 100)
    read_end, write_end = os.pipe()
    os.close(read_end)
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    try:
        done = subprocess.run(
            [str(PROGRAM), "peek", "--queue", "events", "--count", "50"],
            env={**inherited, **sqs.environment},
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(write_end)
    assert done.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in done.stderr
    account = sqs.account()
    assert (account.available, account.in_flight) == (100, 0)
