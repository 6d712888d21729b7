"""What the loop's happenings become: counts, durations and log lines, per queue."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from exporter.errors import InvalidEvent, LedgerError
from exporter.sqs.answers import ChangedVisibility, Deleted, Deletion, Failed, Message, Received
from exporter.telemetry.instrumentation import Instrumentation
from exporter.telemetry.metrics import Health
from exporter.telemetry.readiness import STUCK_SECONDS, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.sqs.answers import Answer

MESSAGE = Message("m-1", "handle", b"secret body", 1.0, None, None, None)
DELETION = Deletion(b"", "", 0.0)


class Told:
    """An Instrumentation of two queues, and the numbers that it moved."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.instrumentation = Instrumentation(Health(self.registry))
        for queue in ("orders", "refunds"):
            self.instrumentation.queue_taken_up(queue)

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one series."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, (name, labels)
        return value

    def requests(self, queue: str) -> dict[str, float]:
        """Return the requests that were counted for a queue, by operation."""
        return {
            sample.labels["operation"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "sqs_exporter_requests_total" and sample.labels["queue"] == queue and sample.value
        }


@pytest.fixture(autouse=True)
def hear_everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let every line through, whatever another test has configured."""
    with caplog.at_level(logging.INFO, "exporter"):
        yield


def received(count: int, queue: str = "orders", *, released: Mapping[str, int] | None = None) -> Received:
    """Make an answer that took 2 s and brought so many messages."""
    return Received(queue, [MESSAGE] * count, released or {}, 100.0, 102.0, 30, 25.0)


def test_a_receive_s_duration_is_observed_where_it_came_back_full() -> None:
    """An answer with fewer than ten messages has waited for them: that says nothing about SQS."""
    told = Told()
    told.instrumentation.answered([received(10), received(9), received(0), received(8, released={"malformed": 2})])
    labels = {"queue": "orders", "operation": "receive"}
    assert told.value("sqs_exporter_request_duration_seconds_count", **labels) == 2
    assert told.value("sqs_exporter_request_duration_seconds_sum", **labels) == 4.0


def test_every_request_is_counted_whatever_became_of_it() -> None:
    """Empty receives, failures, abandoned polls and housekeeping's own: SQS bills each."""
    told = Told()
    answers: list[Answer] = [
        received(0),
        received(10),
        received(1, "refunds"),
        Failed("orders", "receive", "throttled", "slow down", (), 100.0, 100.5),
        Failed("orders", "delete", "server", "again", [DELETION], 100.0, 100.5),
        Deleted("orders", [DELETION], (), 100.0, 100.1),
        ChangedVisibility("orders", [DELETION], (), 100.0, 100.1),
    ]
    told.instrumentation.answered(answers)
    told.instrumentation.receives_abandoned({"orders": 16})
    told.instrumentation.requests_made({("orders", "get_queue_attributes"): 2, ("shop-*", "list_queues"): 1})
    assert told.requests("orders") == {
        "receive": 3 + 16,
        "delete": 2,
        "change_visibility": 1,
        "get_queue_attributes": 2,
    }
    assert told.requests("refunds") == {"receive": 1}
    assert told.requests("shop-*") == {"list_queues": 1}


def test_failures_are_counted_by_reason_and_said_once_a_minute_for_each_queue(caplog: pytest.LogCaptureFixture) -> None:
    """One queue's failures do not keep those of another out of the log."""
    told = Told()
    for queue in ("orders", "refunds"):
        failed = Failed(queue, "receive", "tls", "certificate verify failed", (), 100.0, 100.5)
        told.instrumentation.answered([failed] * 20)
    told.instrumentation.answered([Deleted("orders", [DELETION], [(DELETION, "server")] * 3, 100.0, 100.1)])
    assert told.value("sqs_exporter_receive_errors_total", queue="orders", reason="tls") == 20
    assert told.value("sqs_exporter_message_delete_failures_total", queue="orders", reason="server") == 3
    assert told.value("sqs_exporter_messages_deleted_total", queue="orders") == 1
    lines = [(record.getMessage(), vars(record)["queue"]) for record in caplog.records]
    assert lines == [
        ("receive failed", "orders"),
        ("receive failed", "refunds"),
        ("deletes not confirmed, they are tried again", "orders"),
    ]


def test_a_rejection_says_which_field_held_what_kind_and_never_what(caplog: pytest.LogCaptureFixture) -> None:
    """The body stays out of the log; its hash and length find it again."""
    told = Told()
    told.instrumentation.message_rejected("orders", MESSAGE, InvalidEvent("invalid_value", "price", "array"), left=True)
    told.instrumentation.message_rejected("orders", MESSAGE, InvalidEvent("invalid_json"), left=False)
    first, second = (vars(record) for record in caplog.records)
    assert (first["reason"], first["field"], first["held"]) == ("invalid_value", "price", "array")
    assert (first["action"], second["action"]) == ("left to the redrive policy", "deleted")
    assert first["body_bytes"] == len(MESSAGE.body)
    assert "field" not in second
    assert "secret" not in str([first, second])


def test_readiness_is_said_when_it_changes_for_the_whole_and_for_one_queue_of_several(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With one queue there is one line, with several each queue that fails or recovers is named."""

    def lines_of(*statuses: Status) -> list[tuple[str, str | None, str | None]]:
        caplog.clear()
        told = Told()
        for status in statuses:
            for _ in range(3):
                told.instrumentation.readiness(status)
        return [(r.getMessage(), vars(r).get("queue"), vars(r).get("why")) for r in caplog.records]

    not_ready = Status(ready=False, sentence="denied", queues={"orders": "denied"})
    ready = Status(ready=True, sentence="Ready.", queues={"orders": None})
    assert lines_of(not_ready, ready, not_ready) == [("ready", "orders", None), ("not ready", "orders", "denied")]
    both = Status(ready=True, sentence="Ready.", queues={"orders": None, "refunds": None})
    one = Status(ready=True, sentence="Ready, but", queues={"orders": None, "refunds": "gone"})
    none = Status(ready=False, sentence="full", queues={"orders": "full", "refunds": "full"})
    assert lines_of(both, one, both, none) == [
        ("ready", None, None),
        ("queue is not ready", "refunds", "gone"),
        ("queue is ready", "refunds", None),
        ("not ready", None, "full"),
    ]


def test_a_ledger_works_again_only_where_it_had_failed(caplog: pytest.LogCaptureFixture) -> None:
    """To connect for the first time is no recovery."""
    told = Told()
    told.instrumentation.ledger_recovered()
    assert "ledger works again" not in caplog.messages
    told.instrumentation.ledger_failed(LedgerError("full", "no space"))
    told.instrumentation.ledger_recovered()
    told.instrumentation.ledger_recovered()
    assert caplog.messages.count("ledger works again") == 1


def test_a_commit_that_took_long_is_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """The log of a volume that stood still names the volume: while it does so nothing else can be logged."""
    told = Told()
    told.instrumentation.committed(STUCK_SECONDS - 1)
    assert not caplog.records
    told.instrumentation.committed(45.04)
    (line,) = caplog.records
    assert line.getMessage() == "a commit took long: look at the ledger's volume, or its database server"
    assert line.__dict__["seconds"] == 45.0
