"""Generates the Grafana dashboard: `python grafana/dashboard.py` writes the JSON that Grafana is provisioned with.

With `--check` it writes nothing and fails where the committed JSON is not what it would write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import business
import health
import losses
import night
import overview
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from panels import DATASOURCE, RUNBOOK, UID, text_box, variable
from queries import CLUSTER, INSTANCE, LEDGER, QUEUE, of_exporters

TARGET = Path(__file__).parent / "dashboards" / "sqs-event-exporter.json"
IMPORTABLE = Path(__file__).parent / "import" / "sqs-event-exporter.json"
IN_CONTROLS_MENU = 3
"""Of VariableHide: https://grafana.github.io/grafana-foundation-sdk/typescript/Reference/dashboardv2beta1/object-VariableHide"""
LAYOUT: dict[str, Any] = {"indent": 2, "ensure_ascii": False, "sort_keys": True}


def build() -> str:
    """Return the dashboard as the text of its JSON file."""
    board = (
        builder.Dashboard("SQS events")
        .uid(UID)
        .description("Events counted from Amazon SQS, each exactly once: what they are, how fresh, how complete.")
        .tags(["sqs", "events", "prometheus"])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .timezone("browser")
        .refresh("30s")
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
            .expr(of_exporters(f"process_start_time_seconds{{{INSTANCE}}} * 1000"))
        )
    )
    for one in variables():
        board.with_variable(one)
    for title, fill in (
        ("Is it all right?", overview.is_it_all_right),
        ("What the business sees", business.what_the_business_sees),
        ("How fresh the numbers are", business.how_fresh_the_numbers_are),
        ("For the night shift", night.for_the_night_shift),
        ("Is anything lost or refused?", losses.is_anything_lost_or_refused),
        ("The exporter itself", health.the_exporter_itself),
    ):
        board.with_row(builder.Row(title))
        fill(board)
    model = board.build()
    for number_, panel in enumerate(model.panels or [], start=1):
        panel.id_val = number_
    whole = json.loads(json.dumps(model, cls=JSONEncoder))
    return json.dumps(_with_cluster_in_menu(_with_restarts(whole)), **LAYOUT) + "\n"


def variables() -> list[builder.DatasourceVariable | builder.QueryVariable | builder.TextBoxVariable]:
    """Return the choices on top of the dashboard."""
    return [
        builder.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        variable("cluster", "sqs_exporter_build_info", "", everything=".*"),
        variable("ledger", "sqs_exporter_messages_received_total", CLUSTER),
        variable("queue", "sqs_exporter_messages_received_total", LEDGER),
        variable("type", "sqs_events_total", QUEUE),
        text_box("label", "Split by", "type", "`type`, or one of the labels that --events.labels names."),
        variable("job", "sqs_exporter_build_info", CLUSTER),
        variable("instance", "sqs_exporter_build_info", f'{CLUSTER},job=~"$job"'),
        text_box("price", "USD a million requests", "0.40", "SQS's list price for the queue's region and kind."),
    ]


def _with_restarts(model: dict[str, Any]) -> dict[str, Any]:
    """Return the dashboard whose annotation stands at each start of a process, however long the exporter was away.

    The value of the query is the time of the start in milliseconds; the builder has no word for that.
    """
    (annotation,) = model["annotations"]["list"]
    annotation |= {"useValueForTime": "on", "titleFormat": "Start of {{instance}}", "tagKeys": "job,instance"}
    return model


def _with_cluster_in_menu(model: dict[str, Any]) -> dict[str, Any]:
    """Return the dashboard with the choice of a cluster in the menu of its controls, out of most people's way.

    Few have that label, and Grafana can't hide a variable for having no values. The builder has no word for the menu;
    Grafana 11, which does not know it either, shows the variable beside the others.
    """
    (cluster,) = [one for one in model["templating"]["list"] if one["name"] == "cluster"]
    cluster["hide"] = IN_CONTROLS_MENU
    return model


def importable(text: str) -> str:
    """Return the dashboard in the form of grafana.com, which asks for the data source when it is imported.

    https://grafana.com/docs/grafana/latest/dashboards/share-dashboards-panels/#export-a-dashboard-as-json
    """
    model = json.loads(text.replace("${datasource}", "${DS_PROMETHEUS}").replace("${datasource:queryparam}&", ""))
    model["templating"]["list"] = [one for one in model["templating"]["list"] if one["name"] != "datasource"]
    asked = {
        "name": "DS_PROMETHEUS",
        "label": "Prometheus",
        "description": "Set its scrape interval (timeInterval) to that of the job: rates look back four of them.",
        "type": "datasource",
        "pluginId": "prometheus",
        "pluginName": "Prometheus",
    }
    kinds = sorted({panel["type"] for panel in model["panels"] if panel["type"] != "row"})
    needed = [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "11.0.0"},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
        *({"type": "panel", "id": kind, "name": kind, "version": ""} for kind in kinds),
    ]
    return json.dumps({"__inputs": [asked], "__requires": needed, **model, "id": None}, **LAYOUT) + "\n"


def main() -> None:
    """Write the dashboard in both forms, or with --check compare it with what is committed."""
    text = build()
    for target, wanted in ((TARGET, text), (IMPORTABLE, importable(text))):
        if sys.argv[1:] != ["--check"]:
            target.write_text(wanted, encoding="utf-8")
        elif target.read_text(encoding="utf-8") != wanted:
            sys.exit(f"{target.name} is not what grafana/dashboard.py generates: run it and commit the result.")


if __name__ == "__main__":
    main()
