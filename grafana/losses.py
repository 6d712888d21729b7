"""The row of what is received and not counted, of what SQS refuses, and of what it bills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import chart, rows_by, see
from queries import (
    HEALTH,
    QUEUE,
    gauge,
    growth,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def is_anything_lost_or_refused(board: Dashboard) -> None:
    """All that is received and not counted, and all that SQS does not confirm."""
    for panel in (
        rows_by(
            "reason",
            "Rejected in range by reason",
            {"Messages": (growth("sqs_exporter_messages_rejected_total", QUEUE, "reason"), "locale", 0)},
            see(
                "Messages that are not events, in the chosen range: exact, counted once each. Anything that goes on is "
                "a producer to correct: the log has ids, lengths and hashes.",
                "SqsExporterRejections",
            ),
            sort_by="Messages",
            width=8,
        ),
        chart(
            "Rejected by reason",
            "cps",
            {"{{reason}}": rate("sqs_exporter_messages_rejected_total", QUEUE, "reason")},
            see(
                "The same over time: bad is a line that begins with a release of a producer and does not end.",
                "SqsExporterRejections",
            ),
            width=8,
        ),
        chart(
            "Duplicates and released",
            "cps",
            {
                "{{queue}}: duplicate": rate("sqs_exporter_messages_duplicate_total", QUEUE, "queue"),
                "{{queue}}: released ({{reason}})": rate(
                    "sqs_exporter_messages_released_total", QUEUE, "queue, reason"
                ),
            },
            "Deliveries of messages (or, with --events.id-field, of events) that were counted or rejected before: "
            "recognised, in no total. Released ones are left for SQS to deliver again. A few after a restart are "
            "normal; lasting ones mean that deletes fail, that the visibility timeout is too short, or that a producer "
            "repeats itself.",
            width=8,
        ),
        chart(
            "Overflow, unreadable timestamps, no id",
            "cps",
            {
                "{{queue}}: beyond --events.max-{{limit}}": rate(
                    "sqs_exporter_events_overflowed_total", QUEUE, "queue, limit"
                ),
                "{{queue}}: timestamp unreadable": rate("sqs_exporter_timestamps_unreadable_total", QUEUE, "queue"),
                "{{queue}}: without an id": rate("sqs_exporter_events_without_id_total", QUEUE, "queue"),
            },
            see(
                "Counted, but not wholly: events beyond a cap, without a usable `occurred_at`, or without the id that "
                "--events.id-field names. Above 0: correct the producer, or raise the cap.",
                "SqsExporterOverflow",
            ),
            width=8,
        ),
        chart(
            "Delete failures by reason",
            "cps",
            {"{{reason}}": rate("sqs_exporter_message_delete_failures_total", HEALTH, "reason")},
            see(
                "Deletes that SQS did not confirm; they are tried again. Lasting `access_denied`: grant "
                "sqs:DeleteMessage. Counts stay right meanwhile.",
                "SqsExporterDeleteFailures",
            ),
            width=8,
        ),
        chart(
            "Receive errors by reason",
            "cps",
            {"{{reason}}": rate("sqs_exporter_receive_errors_total", HEALTH, "reason")},
            see(
                "Receives that failed. Single ones are the network's; lasting ones stop the counting, and the reason "
                "says what to correct.",
                "SqsExporterNotReady",
            ),
            width=8,
        ),
        chart(
            "Dead-letter queues",
            "locale",
            {
                "{{dead_letter_queue}}": (
                    f"max by (ledger, dead_letter_queue) ({gauge('sqs_dead_letter_queue_messages', QUEUE)})"
                )
            },
            see(
                "Messages given up, rejected ones included where they are left in the queue. Bad is more than were "
                "rejected. Redrive only what was not counted.",
                "SqsExporterDeadLetters",
            ),
            width=8,
        ),
        chart(
            "Requests a message",
            "short",
            {
                "{{queue}} {{operation}}": (
                    f"{rate('sqs_exporter_requests_total', HEALTH, 'queue, operation')} / on (queue) group_left () "
                    f"{rate('sqs_exporter_messages_received_total', QUEUE, 'queue')}"
                )
            },
            "Requests to SQS, empty receives too, for each message received: 0.2 where batches are full (a tenth of a "
            "receive and of a delete), more on a slow stream, where long polls come back empty. Gaps: nothing was "
            "received.",
            width=8,
        ),
        chart(
            "What SQS bills a month",
            "currencyUSD",
            {"{{queue}}": (f"{rate('sqs_exporter_requests_total', HEALTH, 'queue')} * 86400 * 30 / 1000000 * $price")},
            "All requests of this exporter at the pace of each moment, for 30 days, at the list price in the box on "
            "top (USD a million requests; 0.40 for a standard queue in many regions). Without free tier, and as if no "
            "payload were larger than 64 KiB, which SQS bills as another request.",
            width=8,
        ),
    ):
        board.with_panel(panel)
