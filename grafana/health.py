"""The rows for those who run the exporter: what is lost or refused, and how it does itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import chart, see
from queries import INSTANCE, QUEUE, quantiles, rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def is_anything_lost_or_refused(board: Dashboard) -> None:
    """All that is received and not counted, and all that SQS does not confirm."""
    for panel in (
        chart(
            "Rejected by reason",
            "cps",
            {"{{reason}}": rate("sqs_exporter_messages_rejected_total", QUEUE, "reason")},
            see(
                "Messages that are not events, per second; counted once each. Anything lasting above 0 is a producer "
                "to correct: the log has ids, lengths and hashes.",
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
            "Deliveries of messages already counted (recognised, counted once), and deliveries left for SQS to "
            "deliver again. A few after a restart are normal; lasting ones mean that deletes fail or that the "
            "visibility timeout is too short.",
            width=8,
        ),
        chart(
            "Overflow and unreadable timestamps",
            "cps",
            {
                "{{queue}}: type __other__": rate("sqs_events_total", f'{QUEUE},type="__other__"', "queue"),
                "{{queue}}: timestamp unreadable": rate("sqs_exporter_timestamps_unreadable_total", QUEUE, "queue"),
            },
            see(
                "Counted, but not wholly: events of types beyond the cap, and events without a usable `occurred_at`. "
                "Above 0: correct the producer, or raise --events.max-types.",
                "SqsExporterTypeOverflow",
            ),
            width=8,
        ),
        chart(
            "Delete failures by reason",
            "cps",
            {"{{reason}}": rate("sqs_exporter_message_delete_failures_total", QUEUE, "reason")},
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
            {"{{reason}}": rate("sqs_exporter_receive_errors_total", QUEUE, "reason")},
            see(
                "Receives that failed. Single ones are the network's; lasting ones stop the counting, and the reason "
                "says what to correct.",
                "SqsExporterNotReady",
                "SqsExporterNeverReceived",
            ),
            width=8,
        ),
        chart(
            "Dead-letter queues",
            "locale",
            {"{{dead_letter_queue}}": (f"max by (dead_letter_queue) (sqs_dead_letter_queue_messages{{{QUEUE}}})")},
            see(
                "Messages given up. Bad is anything above 0 that nobody looks at. Redrive only what was not counted.",
                "SqsExporterDeadLetterQueueNotEmpty",
            ),
            width=8,
        ),
    ):
        board.with_panel(panel)


def the_exporter_itself(board: Dashboard) -> None:
    """Latency, ledger, memory and CPU."""
    requests = rate("sqs_exporter_request_duration_seconds_bucket", QUEUE, "le, operation")
    by_reason = rate("sqs_exporter_ledger_errors_total", INSTANCE, "reason")
    for panel in (
        chart(
            "Ledger commits",
            "s",
            quantiles("sqs_exporter_commit_duration_seconds", INSTANCE),
            "How long a commit with its fsync takes; below 10 ms on a healthy disk. Bad is a p99 of more than 100 ms: "
            "the volume under --ledger.path is slow or shared, and bounds the throughput.",
            width=8,
        ),
        chart(
            "Requests to SQS (p95)",
            "s",
            {"{{operation}}": f"histogram_quantile(0.95, {requests})"},
            "Calls that brought or deleted something; empty long polls are left out. Bad are seconds for a delete: "
            "SQS, the proxy or the network is slow.",
            width=8,
        ),
        chart(
            "Ledger errors by reason",
            "cps",
            {"{{reason}}": by_reason},
            see("Anything above 0 stops the receives until the ledger works again.", "SqsExporterLedgerErrors"),
            width=8,
        ),
        chart(
            "Ledger window",
            "s",
            {
                "{{instance}}": (
                    f"time() - min by (instance) (sqs_exporter_ledger_oldest_message_timestamp_seconds{{{INSTANCE}}})"
                )
            },
            see(
                "How far back message ids are remembered. Bad is less than --ledger.window on a busy queue that has "
                "run for longer: --ledger.max-ids is too small.",
                "SqsExporterForgottenEarly",
            ),
            width=8,
        ),
        chart(
            "Ids remembered",
            "locale",
            {
                "{{instance}} remembered": (f"sum by (instance) (sqs_exporter_ledger_messages{{{INSTANCE}}})"),
                "{{instance}} unsettled": (f"sum by (instance) (sqs_exporter_ledger_unsettled_messages{{{INSTANCE}}})"),
                "{{instance}} forgotten early, per second": rate(
                    "sqs_exporter_ledger_forgotten_early_total", INSTANCE, "instance"
                ),
            },
            see(
                "Unsettled ids are of messages not yet known to be deleted: bad is a number that only grows. "
                "Forgotten early above 0: raise --ledger.max-ids.",
                "SqsExporterForgottenEarly",
                "SqsExporterDeleteFailures",
            ),
            width=8,
        ),
        chart(
            "Receives in flight",
            "locale",
            {"{{instance}}": f"sum by (instance) (sqs_exporter_receives_in_flight{{{QUEUE}}})"},
            "Few when idle, up to --sqs.max-receives when the queue is full. At 0 for longer than a moment it takes "
            "no messages: see Ready. Always at the maximum with a backlog: raise it.",
            width=8,
        ),
        chart(
            "Memory",
            "bytes",
            {"{{instance}}": f"process_resident_memory_bytes{{{INSTANCE}}}"},
            "Resident memory: a base plus about 100 bytes for each id remembered. Bad is growth without growth in ids.",
            width=8,
        ),
        chart(
            "CPU",
            "percentunit",
            {"{{instance}}": rate("process_cpu_seconds_total", INSTANCE, "instance")},
            "Of one core. The work is done by one thread: at 100 % it is at its limit; a second exporter with a "
            "ledger of its own shares the queue.",
            width=8,
        ),
        chart(
            "Versions",
            "none",
            {
                "{{version}} {{revision}} Python {{python}}": (
                    f"count by (version, revision, python) (sqs_exporter_build_info{{{INSTANCE}}})"
                )
            },
            "Exporters by version. Two lines for longer than a rollout: one of them was forgotten. A gap is downtime.",
            width=8,
        ),
    ):
        board.with_panel(panel)
