"""The row for those who run the exporter: latency, ledger, memory, CPU and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import chart, number, see
from queries import (
    HEALTH,
    INSTANCE,
    QUEUE,
    gauge,
    of_exporters,
    quantile,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def the_exporter_itself(board: Dashboard) -> None:
    """Latency, ledger, memory and CPU."""
    for panel in (
        chart(
            "Ledger commits",
            "s",
            {f"p{q}": quantile(q / 100, "sqs_exporter_commit_duration_seconds", INSTANCE) for q in (50, 95, 99)},
            "How long a commit takes: with SQLite its fsync, below 10 ms on a healthy disk; with PostgreSQL a round "
            "trip. Bad is a p99 of more than 100 ms: the volume or the database is slow, and bounds the throughput.",
            width=8,
        ),
        chart(
            "Requests to SQS (p95)",
            "s",
            {"{{operation}}": quantile(0.95, "sqs_exporter_request_duration_seconds", HEALTH, "operation")},
            "Receives that came back full, so without the wait of a long poll, and deletes. Bad are seconds: SQS, the "
            "proxy or the network is slow. Gaps: no full receive, no delete.",
            width=8,
        ),
        chart(
            "Ledger errors by reason",
            "cps",
            {"{{reason}}": rate("sqs_exporter_ledger_errors_total", INSTANCE, "reason")},
            see("Anything above 0 stops the receives until the ledger works again.", "SqsExporterLedgerErrors"),
            width=8,
        ),
        chart(
            "Ledger window",
            "s",
            {
                "{{ledger}} {{queue}}": (
                    f"timestamp(sqs_exporter_ledger_oldest_message_timestamp_seconds{{{QUEUE}}}) - "
                    f"sqs_exporter_ledger_oldest_message_timestamp_seconds{{{QUEUE}}}"
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
                "{{queue}} remembered": f"sum by (ledger, queue) ({gauge('sqs_exporter_ledger_messages', QUEUE)})",
                "{{queue}} unsettled": (
                    f"sum by (ledger, queue) ({gauge('sqs_exporter_ledger_unsettled_messages', QUEUE)})"
                ),
                "{{queue}} forgotten early, per second": rate(
                    "sqs_exporter_ledger_forgotten_early_total", QUEUE, "ledger, queue"
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
            {"{{instance}}": f"sum by (instance) (sqs_exporter_receives_in_flight{{{HEALTH}}})"},
            "Few when idle, up to --sqs.max-receives when the queue is full. At 0 for longer than a moment it takes "
            "no messages: see Ready. Always at the maximum with a backlog: raise it.",
            width=8,
        ),
        chart(
            "Memory",
            "bytes",
            {"{{instance}}": of_exporters(f"process_resident_memory_bytes{{{INSTANCE}}}")},
            "Resident memory: a base plus 30 to 50 bytes for each id that SQLite's ledger remembers. Bad is growth "
            "without growth in ids.",
            width=8,
        ),
        chart(
            "CPU",
            "percentunit",
            {"{{instance}}": of_exporters(f"rate(process_cpu_seconds_total{{{INSTANCE}}}[$__rate_interval])")},
            "Of one core, all threads together; counting is the work of one of them. Near 100 % it is at its limit: "
            "more replicas with one PostgreSQL ledger share the queue.",
            width=8,
        ),
        chart(
            "Free on the ledger's volume",
            "bytes",
            {"{{instance}}": f"sqs_exporter_ledger_volume_available_bytes{{{INSTANCE}}}"},
            see(
                "Space left under --ledger.path (SQLite only; empty with PostgreSQL). When it is full, no messages are "
                "taken until there is space again.",
                "SqsExporterVolumeFilling",
            ),
            width=8,
        ),
        chart(
            "Clock against SQS",
            "s",
            {"{{instance}}": f"sqs_exporter_clock_skew_seconds{{{INSTANCE}}}"},
            see(
                "This machine's clock less SQS's. Bad is more than a few seconds: ages are wrong by as much, and from "
                "15 minutes on SQS refuses every call.",
                "SqsExporterClockSkew",
            ),
            from_zero=False,
            width=8,
        ),
        chart(
            "Pushes that failed, log lines dropped",
            "cps",
            {
                "{{instance}} {{signal}}": rate("sqs_exporter_otlp_push_failures_total", INSTANCE, "instance, signal"),
                "{{instance}} log lines": rate("sqs_exporter_log_lines_dropped_total", INSTANCE, "instance"),
            },
            see(
                "OTLP pushes that the endpoint did not take, and lines of the log that nobody read fast enough. "
                "Neither touches the counts.",
                "SqsExporterOtlpPushFailures",
            ),
            width=8,
        ),
        number(
            "Speakers",
            "locale",
            f"count(sqs_exporter_speaker{{{INSTANCE}}} == 1)",
            see(
                "Exporters that show what their ledger keeps: one a ledger. None although exporters are there: no "
                "replica holds the lease of its PostgreSQL ledger.",
                "SqsExporterNoSpeaker",
            ),
            decimals=0,
            no_value="none",
            width=4,
        ),
        number(
            "Commit under way for",
            "s",
            f"max(timestamp(sqs_exporter_ledger_commit_started_timestamp_seconds{{{INSTANCE}}}) - "
            f"(sqs_exporter_ledger_commit_started_timestamp_seconds{{{INSTANCE}}} > 0)) or "
            f"0 * max(sqs_exporter_ledger_commit_started_timestamp_seconds{{{INSTANCE}}})",
            see(
                "How long the commit that was under way at the last scrape had taken by then; 0 where there was none. "
                "Bad is more than a second: the disk or the database does not answer.",
                "SqsExporterCommitOverdue",
            ),
            width=4,
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
            width=16,
        ),
    ):
        board.with_panel(panel)
