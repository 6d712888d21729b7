"""The name, help text, labels and buckets of every metric of our own; `process_*` and `python_info` are the library's.

What people count and the queue itself begin with `sqs_`, the exporter's own health with `sqs_exporter_`.
"""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """One metric: what prometheus_client's instruments take, in their order."""

    name: str
    help: str
    labels: tuple[str, ...] = ("queue",)


_SURVIVES = " Lives in the ledger and survives restarts."
_OWN = " Starts at 0 with the process."

EVENTS = Name("sqs_events_total", "Events counted." + _SURVIVES, ("queue", "type"))
VALUES = Name("sqs_event_value_total", "Sum of the values of events that are not negative." + _SURVIVES, EVENTS.labels)
NEGATIVES = Name(
    "sqs_event_negative_value_total",
    "Sum of the magnitudes of the negative values of events; net is sqs_event_value_total minus this." + _SURVIVES,
    EVENTS.labels,
)
LAST_OCCURRED = Name(
    "sqs_event_last_occurred_timestamp_seconds",
    "Newest occurred_at counted, in seconds since 1970." + _SURVIVES,
    EVENTS.labels,
)
EVENT_AGE = Name("sqs_event_age_seconds", "Time from an event's occurred_at to its commit, at least 0." + _OWN)
MESSAGE_AGE = Name("sqs_message_age_seconds", "Time from a message's SentTimestamp to its commit: the lag." + _OWN)

DEPTH = Name(
    "sqs_queue_messages",
    "Approximate number of messages in the queue, by state; absent where SQS does not say.",
    ("queue", "state"),
)
DEAD_LETTER_DEPTH = Name(
    "sqs_dead_letter_queue_messages",
    "Approximate number of visible messages in the dead-letter queue.",
    ("queue", "dead_letter_queue"),
)

RECEIVED = Name("sqs_exporter_messages_received_total", "Deliveries of messages by SQS." + _SURVIVES)
DUPLICATE = Name(
    "sqs_exporter_messages_duplicate_total", "Deliveries of a message that was already in the ledger." + _SURVIVES
)
REJECTED = Name(
    "sqs_exporter_messages_rejected_total",
    "Messages that are not an event, by reason." + _SURVIVES,
    ("queue", "reason"),
)
RELEASED = Name(
    "sqs_exporter_messages_released_total",
    "Deliveries left to expire uncounted, by reason; SQS delivers them again." + _SURVIVES,
    ("queue", "reason"),
)
TIMESTAMPS_UNREADABLE = Name(
    "sqs_exporter_timestamps_unreadable_total", "Events counted without a usable occurred_at." + _SURVIVES
)
DELETED = Name("sqs_exporter_messages_deleted_total", "Deletes that SQS confirmed." + _OWN)
DELETE_FAILURES = Name(
    "sqs_exporter_message_delete_failures_total",
    "Deletes that SQS did not confirm, by reason; they are tried again." + _OWN,
    ("queue", "reason"),
)
RECEIVE_ERRORS = Name(
    "sqs_exporter_receive_errors_total", "Receives that failed, by reason." + _OWN, ("queue", "reason")
)
RECEIVES_IN_FLIGHT = Name("sqs_exporter_receives_in_flight", "Receives that SQS has not answered yet.")
REQUEST_DURATION = Name(
    "sqs_exporter_request_duration_seconds",
    "Duration of calls to SQS, by operation; empty long polls are not observed." + _OWN,
    ("queue", "operation"),
)
LAST_SUCCESSFUL_RECEIVE = Name(
    "sqs_exporter_last_successful_receive_timestamp_seconds",
    "When a receive last succeeded, in seconds since 1970; 0 before the first.",
)
COMMIT_DURATION = Name("sqs_exporter_commit_duration_seconds", "Duration of the ledger's commits." + _OWN, ())
READY = Name("sqs_exporter_ready", "1 where /-/ready says so, else 0.")

LEDGER_ERRORS = Name("sqs_exporter_ledger_errors_total", "Failures of the ledger, by reason." + _OWN, ("reason",))
LEDGER_MESSAGES = Name("sqs_exporter_ledger_messages", "Message ids that the ledger remembers.", ())
LEDGER_UNSETTLED = Name(
    "sqs_exporter_ledger_unsettled_messages", "Message ids of the ledger not yet known to be deleted.", ()
)
LEDGER_OLDEST = Name(
    "sqs_exporter_ledger_oldest_message_timestamp_seconds",
    "When the oldest message id of the ledger was committed, in seconds since 1970: how far back its memory reaches.",
    (),
)
LEDGER_FORGOTTEN_EARLY = Name(
    "sqs_exporter_ledger_forgotten_early_total",
    "Message ids dropped before the window was over, because there were too many." + _SURVIVES,
    (),
)
BUILD_INFO = Name("sqs_exporter_build_info", "Version of the exporter; always 1.", ("version", "revision", "python"))

AGE_BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
COMMIT_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OPERATIONS = ("receive", "delete")
