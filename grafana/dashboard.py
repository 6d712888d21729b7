"""Generates the Grafana dashboard: `python grafana/dashboard.py` writes the JSON that Grafana is provisioned with.

With `--check` it writes nothing and fails where the committed JSON is not what it would write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import business
import health
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from panels import DATASOURCE, RUNBOOK, variable
from queries import INSTANCE, QUEUE

TARGET = Path(__file__).parent / "dashboards" / "sqs-event-exporter.json"


def build() -> str:
    """Return the dashboard as the text of its JSON file."""
    board = (
        builder.Dashboard("SQS events")
        .uid("sqs-event-exporter")
        .description("Events counted from Amazon SQS, each exactly once: what they are, how fresh, how complete.")
        .tags(["sqs", "events", "prometheus"])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .timezone("browser")
        .refresh("30s")
        .with_variable(builder.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(variable("job", "sqs_exporter_build_info", ""))
        .with_variable(variable("instance", "sqs_exporter_build_info", 'job=~"$job"'))
        .with_variable(variable("queue", "sqs_exporter_ready", INSTANCE))
        .with_variable(variable("type", "sqs_events_total", QUEUE))
        .link(
            builder.DashboardLink("Runbook")
            .type(dashboard.DashboardLinkType.LINK)
            .icon("doc")
            .url(RUNBOOK)
            .target_blank(target_blank=True)
        )
        .annotation(
            builder.AnnotationQuery()
            .name("Restarts")
            .datasource(DATASOURCE)
            .enable(enable=True)
            .icon_color("blue")
            .expr(f"changes(process_start_time_seconds{{{INSTANCE}}}[$__rate_interval]) > 0")
        )
    )
    for title, fill in (
        ("Is it all right?", business.is_it_all_right),
        ("What the business sees", business.what_the_business_sees),
        ("How fresh the numbers are", business.how_fresh_the_numbers_are),
        ("Is anything lost or refused?", health.is_anything_lost_or_refused),
        ("The exporter itself", health.the_exporter_itself),
    ):
        board.with_row(builder.Row(title))
        fill(board)
    model = board.build()
    for number_, panel in enumerate(model.panels or [], start=1):
        panel.id_val = number_
    return json.dumps(model, cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write the dashboard, or with --check compare it with what is committed."""
    text = build()
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text(encoding="utf-8") != text:
            sys.exit(f"{TARGET.name} is not what grafana/dashboard.py generates: run it and commit the result.")
    else:
        TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
