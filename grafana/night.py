"""The row for those who are woken: what fires, since when, and how much time is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonnet_files import CONFIG
from panels import GREEN, RED, RUNBOOK, chart, rows_by, see, states
from queries import (
    CLUSTER,
    HEALTH,
    INSTANCE,
    LEDGER,
    QUEUE,
    gauge,
    of_exporters,
    quantile,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

FIRING = f'ALERTS{{{CLUSTER},alertname=~"SqsExporter.+",alertstate="firing"}}'


def for_the_night_shift(board: Dashboard) -> None:
    """Show what fires, since when nothing works, and how much time is left."""
    age = "sqs_message_age_seconds"
    for panel in (
        rows_by(
            "alertname",
            "Alerts that fire",
            {
                "Firing": (
                    f"count by (alertname, severity, queue, ledger, instance) ({FIRING})",
                    "none",
                    0,
                )
            },
            "Each with a link to its section of the runbook. `critical` is worth getting up for, `warning` a look in "
            "the morning; a warning beside a critical alert often names its cause. No data: nothing fires, or "
            "Prometheus has no rules (the first tile says which).",
            sort_by="severity",
            descending=False,
            width=12,
            link=("Runbook", f"{RUNBOOK}#${{__value.text}}"),
        ),
        states(
            "Readiness over time",
            {
                "{{instance}} {{queue}}": f"min by (instance, queue) (sqs_exporter_ready{{{HEALTH}}})",
                "{{instance}} scraped": f"min by (instance) ({of_exporters(f'up{{{INSTANCE}}}')})",
            },
            see(
                "Green: it works. Red: `/-/ready` says why, or Prometheus can't scrape it. A gap: no such series, "
                "because the exporter was not there. Look for what changed where the colour does.",
                "SqsExporterNotReady",
                "SqsExporterDown",
            ),
            mappings={"0": ("no", RED), "1": ("yes", GREEN)},
            width=12,
        ),
        chart(
            "Lag against visibility timeout and retention",
            "s",
            {
                "{{queue}} lag (p95)": f"{quantile(0.95, age, HEALTH, 'queue')} / 1.2",
                "{{queue}} visibility timeout": (
                    f"max by (queue) ({gauge('sqs_queue_visibility_timeout_seconds', QUEUE)})"
                ),
                "{{queue}} retention": f"min by (queue) ({gauge('sqs_queue_retention_seconds', QUEUE)})",
            },
            see(
                "How much time is left: a lag near the retention means that SQS drops messages before they are "
                "counted. The scale is logarithmic. A lag of whole visibility timeouts: messages come back uncounted.",
                "SqsExporterRetentionNear",
                "SqsExporterLag",
            ),
            logarithmic=True,
            drill="queue",
            width=12,
        ),
        chart(
            "Memory of ids against its limit",
            "percentunit",
            {
                "{{ledger}} {{queue}}": (
                    f"{gauge('sqs_exporter_ledger_messages', QUEUE)} / ignoring (queue) group_left () "
                    f"{gauge('sqs_exporter_ledger_max_messages', LEDGER)}"
                )
            },
            see(
                "Ids remembered of those that --ledger.max-ids allows a queue. Bad is more than "
                f"{CONFIG['memoryShare']:.0%}: beyond the limit ids are forgotten early, or receives slow down.",
                "SqsExporterMemoryNearLimit",
                "SqsExporterForgottenEarly",
            ),
            width=12,
        ),
    ):
        board.with_panel(panel)
