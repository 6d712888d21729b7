"""The row on top: single numbers that say whether it is all right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonnet_files import CONFIG
from panels import GREEN, NEUTRAL, RED, RUNBOOK, colours, number, see
from queries import (
    ACCOUNTED,
    CLUSTER,
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

EVENTS = "sqs_events_total"


def is_it_all_right(board: Dashboard) -> None:
    """Single numbers; each is green, or says where to look, and has no colour where there is no data."""
    firing = f'count(ALERTS{{{CLUSTER},alertname=~"SqsExporter.+",alertstate="firing"}})'
    rejected = rate("sqs_exporter_messages_rejected_total", QUEUE, "ledger, queue")
    waiting = f'sum({gauge("sqs_queue_messages", f"""{QUEUE},state="visible" """.rstrip())})'
    for panel in (
        number(
            "Alerts firing",
            "none",
            f"{firing} or 0 * count(instance:sqs_exporter:up{{{CLUSTER}}})",
            "Alerts of this exporter that fire now, in all jobs; the row for the night shift lists them, and each has "
            f"a section in the [runbook]({RUNBOOK}). No rules: this Prometheus does not evaluate prometheus-rules.yml.",
            thresholds=[(None, NEUTRAL), (0, GREEN), (1, RED)],
            no_value="no rules",
            link="/alerting/list?search=SqsExporter",
        ),
        number(
            "Ready",
            "none",
            f"min(min without (queue) (sqs_exporter_ready{{{HEALTH}}}) or {of_exporters(f'up{{{INSTANCE}}}')})",
            see(
                "Whether every chosen exporter takes messages, from every chosen queue. Not ready: `GET /-/ready` on "
                "the exporter says why; messages wait in SQS meanwhile.",
                "SqsExporterNotReady",
                "SqsExporterQueueNotReady",
                "SqsExporterDown",
            ),
            thresholds=[(None, NEUTRAL), (0, RED), (1, GREEN)],
            mappings={"0": ("No", RED), "1": ("Yes", GREEN)},
        ),
        number(
            "Since last good receive",
            "s",
            f"max(timestamp(sqs_exporter_last_successful_receive_timestamp_seconds{{{HEALTH}}}) - "
            f"sqs_exporter_last_successful_receive_timestamp_seconds{{{HEALTH}}})",
            see(
                "When it was scraped. Empty answers count, so this stays below the 20 s of a long poll even on an idle "
                "queue. More: SQS can't be reached. Decades: no receive has ever succeeded.",
                "SqsExporterNotReady",
            ),
            thresholds=colours(60, 300),
            decimals=0,
        ),
        number(
            "Messages waiting",
            "locale",
            waiting,
            see(
                "Visible messages in the queue. Many are no harm in a burst; bad is a number that stays while the lag "
                "beside it grows.",
                "SqsExporterLag",
                "SqsExporterStalled",
            ),
            decimals=0,
        ),
        number(
            "Lag (p95)",
            "s",
            f"max({quantile(0.95, 'sqs_message_age_seconds', HEALTH, 'queue')} / 1.2)",
            see(
                "From sending to counting, for 95 of 100 messages of the last moments, in the queue that is worst: how "
                "old the numbers below are. Idle: the exporter is there, and has received nothing.",
                "SqsExporterLag",
            ),
            thresholds=colours(60, CONFIG["lagSeconds"]),
            not_a_number="idle",
        ),
        number(
            "Rejected share",
            "percentunit",
            f"max({rejected} / ({rejected} + ({rate(EVENTS, QUEUE, 'ledger, queue')} or 0 * {rejected})))",
            see(
                "Messages that are not events: rejected / (rejected + counted), in the queue that is worst. They are "
                "in no total. Bad is a jump: a producer's release. Idle: nothing was received.",
                "SqsExporterRejections",
            ),
            thresholds=colours(CONFIG["rejectedShare"] / 5, CONFIG["rejectedShare"]),
            not_a_number="idle",
        ),
        number(
            "Unaccounted",
            "locale",
            f"sum(abs(sum by (ledger, queue) (sqs_exporter_messages_received_total{{{QUEUE}}}) - "
            f'sum by (ledger, queue) ({{{QUEUE},__name__=~"{ACCOUNTED}"}})))',
            see(
                "Received less counted, duplicate, rejected, released and forgotten on purpose, since the ledger "
                "began. It is 0, across restarts; for one scrape a new type may be missing. What stays is a bug: keep "
                "the ledger and report it.",
                "SqsExporterUnaccounted",
            ),
            thresholds=[(None, NEUTRAL), (0, GREEN), (1, RED)],
            decimals=0,
        ),
        number(
            "In dead-letter queues",
            "locale",
            f"sum(max without (queue) ({gauge('sqs_dead_letter_queue_messages', QUEUE)}))",
            see(
                "Messages given up after maxReceiveCount receives, rejected ones included where they are left in the "
                "queue. Look at them before their retention ends. No data: there is no such queue, or it may not be "
                "read.",
                "SqsExporterDeadLetters",
            ),
            thresholds=[(None, NEUTRAL), (0, GREEN), (1, "yellow")],
            decimals=0,
        ),
    ):
        board.with_panel(panel)
