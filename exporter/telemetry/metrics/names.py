"""Every metric of our own: name, kind, help text, labels, buckets, and its name where it is pushed over OTLP.

What people count and the queue itself begin with `sqs_`, the exporter's own health with `sqs_exporter_`. `process_*`
and `python_info` are the library's. docs/metrics.md is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

SURVIVES = " Lives in the ledger and survives restarts."
STARTS_AT_0 = " Starts at 0 with the process."


@dataclass(frozen=True, slots=True)
class Name:
    """One metric, as Prometheus and as OpenTelemetry have it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    otlp: str
    """Where Prometheus takes OTLP in, this and the unit come out as `name`."""
    unit: str
    """UCUM's: s, By, 1, or what is counted in braces."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, without infinity."""

    @property
    def instrument(self) -> tuple[str, str, tuple[str, ...]]:
        """What prometheus_client's instruments take first."""
        return self.name, self.help, self.labels


QUEUE = ("queue",)
LEDGER = ("ledger",)
LEDGER_AND_QUEUE = ("ledger", "queue")
EVENT_LABELS = ("ledger", "queue", "type")
"""Those of `--events.labels` follow."""

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
COMMIT_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# fmt: off
AGE_BUCKETS = (
    0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 15.0, 20.0, 30.0, 45.0,
    60.0, 90.0, 120.0, 180.0, 240.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0, 5400.0, 7200.0, 10800.0, 14400.0, 21600.0, 86400.0,
)
"""From 1 s to 6 h none is more than 1.5 times the one before, so that a quantile is right within 25 %."""
# fmt: on
OPERATIONS = ("receive", "delete")
"""Those of which a duration is observed."""

EVENTS = Name("sqs_events_total", "counter", "Events counted." + SURVIVES, EVENT_LABELS, "sqs.events", "{event}")
VALUES = Name(
    "sqs_event_value_total",
    "counter",
    "Sum of the values of events that are not negative." + SURVIVES,
    EVENT_LABELS,
    "sqs.event.value",
    "1",
)
NEGATIVES = Name(
    "sqs_event_negative_value_total",
    "counter",
    "Sum of the magnitudes of the negative values of events; net is sqs_event_value_total minus this." + SURVIVES,
    EVENT_LABELS,
    "sqs.event.negative_value",
    "1",
)
LAST_OCCURRED = Name(
    "sqs_event_last_occurred_timestamp_seconds",
    "gauge",
    "Newest occurred_at counted, in seconds since 1970." + SURVIVES,
    EVENT_LABELS,
    "sqs.event.last_occurred.timestamp",
    "s",
)
EVENT_AGE = Name(
    "sqs_event_age_seconds",
    "histogram",
    "Time from an event's occurred_at to its commit, at least 0." + STARTS_AT_0,
    QUEUE,
    "sqs.event.age",
    "s",
    AGE_BUCKETS,
)
MESSAGE_AGE = Name(
    "sqs_message_age_seconds",
    "histogram",
    "Time from a message's SentTimestamp to its commit: the lag." + STARTS_AT_0,
    QUEUE,
    "sqs.message.age",
    "s",
    AGE_BUCKETS,
)

DEPTH = Name(
    "sqs_queue_messages",
    "gauge",
    "Approximate number of messages in the queue, by state; absent where SQS does not say.",
    ("ledger", "queue", "state"),
    "sqs.queue.messages",
    "{message}",
)
DEAD_LETTER_DEPTH = Name(
    "sqs_dead_letter_queue_messages",
    "gauge",
    "Approximate number of visible messages in the dead-letter queue.",
    ("ledger", "queue", "dead_letter_queue"),
    "sqs.dead_letter_queue.messages",
    "{message}",
)
QUEUE_INFO = Name(
    "sqs_queue_info",
    "gauge",
    "Account and region of the queue; always 1.",
    ("ledger", "queue", "account", "region"),
    "sqs.queue.info",
    "",
)
VISIBILITY_TIMEOUT = Name(
    "sqs_queue_visibility_timeout_seconds",
    "gauge",
    "Visibility timeout of the queue.",
    LEDGER_AND_QUEUE,
    "sqs.queue.visibility_timeout",
    "s",
)
RETENTION = Name(
    "sqs_queue_retention_seconds",
    "gauge",
    "How long the queue keeps a message; absent where SQS does not say.",
    LEDGER_AND_QUEUE,
    "sqs.queue.retention",
    "s",
)

RECEIVED = Name(
    "sqs_exporter_messages_received_total",
    "counter",
    "Deliveries of messages by SQS." + SURVIVES,
    LEDGER_AND_QUEUE,
    "sqs.exporter.messages.received",
    "{message}",
)
DUPLICATE = Name(
    "sqs_exporter_messages_duplicate_total",
    "counter",
    "Deliveries of a message, or of an event by its own id, that was already in the ledger." + SURVIVES,
    LEDGER_AND_QUEUE,
    "sqs.exporter.messages.duplicate",
    "{message}",
)
REJECTED = Name(
    "sqs_exporter_messages_rejected_total",
    "counter",
    "Messages that are not an event, by reason." + SURVIVES,
    ("ledger", "queue", "reason"),
    "sqs.exporter.messages.rejected",
    "{message}",
)
RELEASED = Name(
    "sqs_exporter_messages_released_total",
    "counter",
    "Deliveries left to expire uncounted, by reason; SQS delivers them again." + SURVIVES,
    ("ledger", "queue", "reason"),
    "sqs.exporter.messages.released",
    "{message}",
)
TIMESTAMPS_UNREADABLE = Name(
    "sqs_exporter_timestamps_unreadable_total",
    "counter",
    "Events counted without a usable occurred_at." + SURVIVES,
    LEDGER_AND_QUEUE,
    "sqs.exporter.timestamps.unreadable",
    "{message}",
)
OVERFLOWED = Name(
    "sqs_exporter_events_overflowed_total",
    "counter",
    "Events counted under __other__, by the limit that was reached: types, or series (label sets)." + SURVIVES,
    ("ledger", "queue", "limit"),
    "sqs.exporter.events.overflowed",
    "{event}",
)
WITHOUT_ID = Name(
    "sqs_exporter_events_without_id_total",
    "counter",
    "Events counted by their MessageId, because the field of --events.id-field is not in them." + SURVIVES,
    LEDGER_AND_QUEUE,
    "sqs.exporter.events.without_id",
    "{event}",
)
FORGOTTEN = Name(
    "sqs_exporter_events_forgotten_total",
    "counter",
    "Events that `ledger forget-type` took out of sqs_events_total." + SURVIVES,
    LEDGER_AND_QUEUE,
    "sqs.exporter.events.forgotten",
    "{event}",
)
LEDGER_MESSAGES = Name(
    "sqs_exporter_ledger_messages",
    "gauge",
    "Ids that the ledger remembers: messages' and, with --events.id-field, events'.",
    LEDGER_AND_QUEUE,
    "sqs.exporter.ledger.messages",
    "{message}",
)
LEDGER_UNSETTLED = Name(
    "sqs_exporter_ledger_unsettled_messages",
    "gauge",
    "Message ids of the ledger not yet known to be deleted.",
    LEDGER_AND_QUEUE,
    "sqs.exporter.ledger.unsettled_messages",
    "{message}",
)
LEDGER_OLDEST = Name(
    "sqs_exporter_ledger_oldest_message_timestamp_seconds",
    "gauge",
    "When the oldest message id of the ledger was committed, in seconds since 1970: how far back its memory reaches.",
    LEDGER_AND_QUEUE,
    "sqs.exporter.ledger.oldest_message.timestamp",
    "s",
)
LEDGER_FORGOTTEN_EARLY = Name(
    "sqs_exporter_ledger_forgotten_early_total",
    "counter",
    "Ids dropped before their window was over, because there were too many." + SURVIVES,
    LEDGER_AND_QUEUE,
    "sqs.exporter.ledger.forgotten_early",
    "{message}",
)
LEDGER_MAX_MESSAGES = Name(
    "sqs_exporter_ledger_max_messages",
    "gauge",
    "How many ids the ledger may remember of each queue, messages' and events': --ledger.max-ids.",
    LEDGER,
    "sqs.exporter.ledger.max_messages",
    "{message}",
)

DELETED = Name(
    "sqs_exporter_messages_deleted_total",
    "counter",
    "Deletes that SQS confirmed." + STARTS_AT_0,
    QUEUE,
    "sqs.exporter.messages.deleted",
    "{message}",
)
DELETE_FAILURES = Name(
    "sqs_exporter_message_delete_failures_total",
    "counter",
    "Deletes that SQS did not confirm, by reason; they are tried again." + STARTS_AT_0,
    ("queue", "reason"),
    "sqs.exporter.message_delete_failures",
    "{message}",
)
RECEIVE_ERRORS = Name(
    "sqs_exporter_receive_errors_total",
    "counter",
    "Receives that failed, by reason." + STARTS_AT_0,
    ("queue", "reason"),
    "sqs.exporter.receive_errors",
    "{error}",
)
RECEIVES_IN_FLIGHT = Name(
    "sqs_exporter_receives_in_flight",
    "gauge",
    "Receives that SQS has not answered yet.",
    QUEUE,
    "sqs.exporter.receives_in_flight",
    "{request}",
)
REQUESTS = Name(
    "sqs_exporter_requests_total",
    "counter",
    "Requests to SQS, empty receives included, by operation: what SQS bills." + STARTS_AT_0,
    ("queue", "operation"),
    "sqs.exporter.requests",
    "{request}",
)
REQUEST_DURATION = Name(
    "sqs_exporter_request_duration_seconds",
    "histogram",
    "Duration of calls to SQS, by operation; of receives, those that brought ten messages: all others are the long "
    "poll's wait." + STARTS_AT_0,
    ("queue", "operation"),
    "sqs.exporter.request.duration",
    "s",
    REQUEST_BUCKETS,
)
LAST_SUCCESSFUL_RECEIVE = Name(
    "sqs_exporter_last_successful_receive_timestamp_seconds",
    "gauge",
    "When a receive last succeeded, in seconds since 1970; 0 before the first.",
    QUEUE,
    "sqs.exporter.last_successful_receive.timestamp",
    "s",
)
COMMIT_DURATION = Name(
    "sqs_exporter_commit_duration_seconds",
    "histogram",
    "Duration of the ledger's commits." + STARTS_AT_0,
    (),
    "sqs.exporter.commit.duration",
    "s",
    COMMIT_BUCKETS,
)
LEDGER_ERRORS = Name(
    "sqs_exporter_ledger_errors_total",
    "counter",
    "Failures of the ledger, by reason." + STARTS_AT_0,
    ("reason",),
    "sqs.exporter.ledger.errors",
    "{error}",
)
READY = Name("sqs_exporter_ready", "gauge", "1 where /-/ready says so, else 0.", QUEUE, "sqs.exporter.ready", "")
COMMIT_STARTED = Name(
    "sqs_exporter_ledger_commit_started_timestamp_seconds",
    "gauge",
    "When the commit under way began, in seconds since 1970; 0 where none is.",
    (),
    "sqs.exporter.ledger.commit_started.timestamp",
    "s",
)
VOLUME_AVAILABLE = Name(
    "sqs_exporter_ledger_volume_available_bytes",
    "gauge",
    "Free space on the volume of the ledger's file; absent where the ledger is no file.",
    (),
    "sqs.exporter.ledger.volume.available",
    "By",
)
CLOCK_SKEW = Name(
    "sqs_exporter_clock_skew_seconds",
    "gauge",
    "How far this machine's clock is ahead of SQS's, within a second; absent before SQS has said.",
    (),
    "sqs.exporter.clock_skew",
    "s",
)
SPEAKER = Name(
    "sqs_exporter_speaker",
    "gauge",
    "1 where this process shows what the ledger keeps, 0 where another replica does.",
    (),
    "sqs.exporter.speaker",
    "",
)
OTLP_PUSH_FAILURES = Name(
    "sqs_exporter_otlp_push_failures_total",
    "counter",
    "Pushes over OTLP that failed, by signal; absent where OTLP is off." + STARTS_AT_0,
    ("signal",),
    "sqs.exporter.otlp_push_failures",
    "{push}",
)
LOG_LINES_DROPPED = Name(
    "sqs_exporter_log_lines_dropped_total",
    "counter",
    "Log lines that nobody read." + STARTS_AT_0,
    (),
    "sqs.exporter.log_lines_dropped",
    "{line}",
)
BUILD_INFO = Name(
    "sqs_exporter_build_info",
    "gauge",
    "Version of the exporter; always 1.",
    ("version", "revision", "python"),
    "sqs.exporter.build_info",
    "",
)

ALL = {name.name: name for name in list(globals().values()) if isinstance(name, Name)}
