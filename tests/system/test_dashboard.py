"""The Grafana dashboard: generated, in line with dashboard-linter, and its totals are whole.

Tests name the rules of https://github.com/grafana/dashboard-linter that they check. target-promql-rule (a query is
valid) is what test_prometheus.py shows by asking them all; the two rules for LogQL have nothing to look at here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dashboard_queries import DASHBOARD, PANELS, QUERIES, ROOT, Query
from programs import path_of

if TYPE_CHECKING:
    from pathlib import Path

EXCLUSIONS: dict[str, Any] = yaml.safe_load((ROOT / "grafana" / "dashboards" / ".lint").read_text())["exclusions"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
SELECTOR = re.compile(r"([a-zA-Z_:]*)\{([^}]*)\}(\[[^]]*\])?")
RATES = ("rate(", "irate(", "increase(")
UNITS = {"none", "short", "locale", "percentunit", "currencyUSD", "bytes", "dateTimeFromNow", "s", "cps"}
"""Those of panel-units-rule that are in use here; Grafana shows an unknown one as a word behind the number."""


def excluded(rule: str, panel: str) -> bool:
    """Whether the linter's exceptions name the panel for the rule."""
    return any(entry["panel"] == panel for entry in EXCLUSIONS.get(rule, {}).get("entries", []))


def overridden(panel: dict[str, Any], name: str) -> list[Any]:
    """Return what the panel's overrides set a property to."""
    properties = [one for override in panel["fieldConfig"]["overrides"] for one in override["properties"]]
    return [one["value"] for one in properties if one["id"] == name]


def broken_rules(query: Query) -> set[str]:
    """Return the rules of dashboard-linter for queries that the query breaks, exceptions or not."""
    broken = set()
    for found in SELECTOR.finditer(query.expr):
        metric, matchers, window = found.groups()
        in_rate = query.expr[: found.start()].endswith(RATES)
        if 'cluster=~"$cluster"' not in matchers:
            broken.add("cluster")  # no rule of the linter's, and without any exception
        if 'job=~"$job"' not in matchers:
            broken.add("target-job-rule")
        if 'instance=~"$instance"' not in matchers:
            broken.add("target-instance-rule")
        if in_rate and window != "[$__rate_interval]":
            broken.add("target-rate-interval-rule")
        if (metric.endswith(("_total", "_bucket", "_count", "_sum")) or "__name__=~" in matchers) and not in_rate:
            broken.add("target-counter-agg-rule")
    return broken


def test_generating_the_dashboard_changes_nothing() -> None:
    """The committed JSON is what the program writes."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "grafana" / "dashboard.py"), "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_dashboard_is_the_classic_kind_and_not_edited_in_grafana() -> None:
    """Every Grafana from 11 on reads it, and its source stays the only one (the linter's uneditable-dashboard)."""
    assert DASHBOARD["schemaVersion"] <= 42
    assert DASHBOARD["graphTooltip"] == 1
    assert DASHBOARD["editable"] is False
    assert [link["url"].endswith("/docs/runbook.md") for link in DASHBOARD["links"]] == [True]


def test_the_data_source_is_a_variable() -> None:
    """The dashboard works with any Prometheus: template-datasource-rule and panel-datasource-rule."""
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    assert VARIABLES["datasource"]["label"] == "Data source"
    for part in [*PANELS, *(target for panel in PANELS for target in panel["targets"])]:
        assert part["datasource"]["uid"] == "${datasource}"


def test_a_label_of_each_kind_can_be_chosen() -> None:
    """template-job-rule and template-instance-rule, and what the ledger keeps by its own labels."""
    chosen = {name for name, variable in VARIABLES.items() if variable["type"] == "query"}
    assert chosen == {"cluster", "ledger", "queue", "type", "job", "instance"}


@pytest.mark.parametrize("name", [name for name, variable in VARIABLES.items() if variable["type"] == "query"])
def test_variables_choose_several_values_or_all(name: str) -> None:
    """template-label-promql-rule and template-on-time-change-reload-rule, and those of job and instance for all."""
    variable = VARIABLES[name]
    assert variable["label"] == name.capitalize()
    assert variable["datasource"]["uid"] == "${datasource}"
    assert variable["multi"]
    assert variable["includeAll"]
    assert variable["allValue"] == (".*" if name == "cluster" else ".+")  # a cluster is the one that may be absent
    assert variable["refresh"] == 2
    assert re.fullmatch(r"label_values\(.+, " + name + r"\)", variable["query"])


def test_the_cluster_is_a_choice_in_the_menu_of_the_dashboards_controls() -> None:
    """All clusters are chosen, those without the label too; the mixin shows the variable on top."""
    cluster = VARIABLES["cluster"]
    assert cluster["hide"] == 3
    assert cluster["allValue"] == ".*"
    assert cluster["current"]["value"] == ["$__all"]


def test_the_split_and_the_list_price_are_written_by_hand() -> None:
    """A label of --events.labels and SQS's price of the region can be set; both begin with something that works."""
    assert {name: VARIABLES[name]["query"] for name in ("label", "price")} == {"label": "type", "price": "0.40"}
    assert all(VARIABLES[name]["type"] == "textbox" for name in ("label", "price"))


def test_the_form_of_grafana_com_asks_for_the_data_source() -> None:
    """What people import is the same dashboard, with `__inputs` instead of a variable, and says what it requires."""
    imported = json.loads((ROOT / "grafana" / "import" / "sqs-event-exporter.json").read_text())
    (asked,) = imported.pop("__inputs")
    needed = imported.pop("__requires")
    assert (asked["name"], asked["type"], asked["pluginId"]) == ("DS_PROMETHEUS", "datasource", "prometheus")
    assert "timeInterval" in asked["description"]
    assert {one["id"] for one in needed if one["type"] == "panel"} == {panel["type"] for panel in PANELS}
    assert imported["id"] is None
    assert "${datasource" not in json.dumps(imported)
    assert [panel["title"] for panel in imported["panels"]] == [panel["title"] for panel in DASHBOARD["panels"]]
    assert [one["name"] for one in imported["templating"]["list"]] == [
        name for name in VARIABLES if name != "datasource"
    ]


def test_a_click_narrows_the_dashboard_and_keeps_source_and_time() -> None:
    """Series by queue, types and alerts lead on: to the dashboard for that one, or to the runbook."""
    links = [link["url"] for panel in PANELS for link in panel["fieldConfig"]["defaults"].get("links", [])]
    links += [
        link["url"]
        for panel in PANELS
        for override in panel["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "links"
        for link in one["value"]
    ]
    inside = [link for link in links if link.startswith(f"/d/{DASHBOARD['uid']}?")]
    assert {"var-queue=${__field.labels.queue}", "var-type=${__value.text}"} <= {link.split("&")[-1] for link in inside}
    assert all("${datasource:queryparam}" in link and "${__url_time_range}" in link for link in inside)
    assert [link for link in links if link not in inside] == [DASHBOARD["links"][0]["url"] + "#${__value.text}"]


def test_restarts_are_marked_where_the_process_began_and_name_it() -> None:
    """However slow a restart was, its mark stands at the start that the process itself tells."""
    (restarts,) = DASHBOARD["annotations"]["list"]
    assert restarts["expr"].startswith("process_start_time_seconds{")
    assert "* 1000 and ignoring" in restarts["expr"]
    assert restarts["useValueForTime"] == "on"
    assert "{{instance}}" in restarts["titleFormat"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_no_panel_is_coloured_for_want_of_data(panel: dict[str, Any]) -> None:
    """The first colour, that of no data, is neutral, and no data has a text that says so."""
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    if panel["type"] in {"stat", "state-timeline"}:
        assert steps[0] == {"value": None, "color": "text"}
        special = [one["options"] for one in defaults["mappings"] if one["type"] == "special"]
        assert special[0]["match"] == "null+nan"
        assert special[0]["result"]["color"] == "text"
    if panel["type"] == "stat":
        assert defaults["noValue"] in {"no data", "no rules", "none"}


@pytest.mark.parametrize(
    "panel", [panel for panel in PANELS if panel["type"] == "timeseries"], ids=lambda p: p["title"]
)
def test_series_that_are_zero_all_along_are_in_no_legend(panel: dict[str, Any]) -> None:
    """A legend names what happened."""
    assert any(
        override["matcher"] == {"id": "byValue", "options": {"reducer": "allIsZero", "op": "gte", "value": 0}}
        and override["properties"][0]["value"]["legend"]
        for override in panel["fieldConfig"]["overrides"]
    )


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_has_title_unit_and_a_description_that_says_what_to_do(panel: dict[str, Any]) -> None:
    """panel-title-description-rule, panel-units-rule and panel-no-targets-rule."""
    assert panel["title"]
    assert len(panel["description"]) > 80
    assert {panel["fieldConfig"]["defaults"]["unit"], *overridden(panel, "unit")} <= UNITS
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    if panel["type"] == "stat":
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    """A panel can be named in an exception or a runbook, and none hides another."""
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_every_link_of_a_panel_leads_to_a_section_of_the_runbook() -> None:
    """No description sends its reader nowhere."""
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    linked = re.findall(r"runbook\.md#(\w+)", " ".join(panel["description"] for panel in PANELS))
    assert linked
    assert set(linked) <= {heading.lower() for heading in headings}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.panel} {query.legend}")
def test_queries_keep_the_rules_of_the_linter_or_stand_among_the_exceptions(query: Query) -> None:
    """Selectors name job and instance, counters are rates over $__rate_interval, unless an exception says why not."""
    assert {rule for rule in broken_rules(query) if not excluded(rule, query.panel)} == set()


def test_every_exception_has_a_reason_and_is_needed() -> None:
    """No exception outlives what it was made for."""
    broken = {(rule, query.panel) for query in QUERIES for rule in broken_rules(query)}
    for rule, exclusion in EXCLUSIONS.items():
        assert exclusion["reason"]
        assert {(rule, entry["panel"]) for entry in exclusion["entries"]} <= broken


SERIES = 'job="shop", instance="orders", ledger="orders", queue="events", type="purchase"'
COUNTS = {
    # Each of 15 s; the range of 30 minutes (120 scrapes) ends at 60 minutes (scrape 240).
    "events at irregular times": ("0x119 0x13 12x20 40x33 75x200", 75),
    "a series born inside the range": ("_x150 7x30 75x200", 75),
    "known types that Prometheus sees at 0 first": ("_x150 0x3 75x200", 75),
    "nothing happened": ("75x300", 0),
    "a restart inside the range": ("100x130 130x10 stale _x8 175x200", 75),
    "an outage over the start of the range": ("100x60 stale _x100 130x20 175x200", 75),
    "an outage over the end of the range": ("100x130 175x40 stale _x200", 75),
    "counts too large for a rounding error to go unnoticed": ("4503599627370421x130 4503599627370496x200", 75),
}


@pytest.mark.parametrize(("values", "expected"), COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("panel", ["Events in range", "Top ten types in range", "Share of events by $label"])
def test_totals_over_a_range_are_whole_and_right(panel: str, values: str, expected: int, tmp_path: Path) -> None:
    """75 events read 75, wherever restarts and outages fall: the panels' own queries, asked of Prometheus' engine."""
    query = next(query for query in QUERIES if query.panel == panel)
    promtool_evaluates(query, {"sqs_events_total": values}, expected, tmp_path)


@pytest.mark.parametrize("panel", ["Net value in range", "Top ten types in range"])
def test_net_value_over_a_range_may_fall_below_zero(panel: str, tmp_path: Path) -> None:
    """What was given back is subtracted."""
    query = next(query for query in QUERIES if query.panel == panel and "negative" in query.expr)
    values = {
        "sqs_event_value_total": "1000.5x130 1100.75x200",
        "sqs_event_negative_value_total": "3x130 203.5x200",
    }
    promtool_evaluates(query, values, -100.25, tmp_path)


def test_an_exporter_that_is_down_is_not_hidden_by_its_namesake_in_another_cluster(tmp_path: Path) -> None:
    """Two clusters have a target of the same address; one is ready, and the other can't be scraped any longer."""
    (query,) = [query for query in QUERIES if query.panel == "Ready"]
    target = 'job="shop", instance="exporter:9797"'
    build = 'version="2", revision="abc", python="3.13.1"'
    series = {
        f'up{{cluster="eu", {target}}}': "1x100 0x200",
        f'sqs_exporter_build_info{{cluster="eu", {target}, {build}}}': "1x100 stale",
        f'sqs_exporter_ready{{cluster="eu", {target}, queue="events"}}': "1x100 stale",
        f'up{{cluster="us", {target}}}': "1x300",
        f'sqs_exporter_build_info{{cluster="us", {target}, {build}}}': "1x300",
        f'sqs_exporter_ready{{cluster="us", {target}, queue="events"}}': "1x300",
    }
    promtool_finds(query, series, "{}", 0, tmp_path)


@pytest.mark.parametrize("panel", ["In dead-letter queues", "Dead-letter queues"])
def test_a_dead_letter_queue_that_queues_share_is_shown_once(panel: str, tmp_path: Path) -> None:
    """Its messages are as many as SQS says, not as many for each queue that gives them up."""
    (query,) = [query for query in QUERIES if query.panel == panel]
    shared = 'ledger="orders", instance="orders", dead_letter_queue="given-up"'
    series = {f'sqs_dead_letter_queue_messages{{{shared}, queue="{queue}"}}': "5x300" for queue in ("a", "b")}
    labels = '{ledger="orders", dead_letter_queue="given-up"}' if query.over_time else "{}"
    promtool_finds(query, series, labels, 5, tmp_path)


def promtool_evaluates(query: Query, values: dict[str, str], expected: float, tmp_path: Path) -> None:
    """Assert what a query about events gives at 60 minutes for a range of 30."""
    labels = "{}" if query.expr.startswith("sum(") else '{type="purchase"}'
    promtool_finds(query, {f"{name}{{{SERIES}}}": text for name, text in values.items()}, labels, expected, tmp_path)


def promtool_finds(query: Query, series: dict[str, str], labels: str, expected: float, tmp_path: Path) -> None:
    """Assert what a query gives at 60 minutes for a range of 30, with promtool's engine."""
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": text} for name, text in series.items()],
        "promql_expr_test": [
            {
                "expr": query.filled_in(__range="30m"),
                "eval_time": "60m",
                "exp_samples": [{"labels": labels, "value": expected}],
            }
        ],
    }
    path = tmp_path / "totals.test.yml"
    path.write_text(yaml.safe_dump({"tests": [case]}))
    done = subprocess.run(
        [path_of("promtool", "prometheus"), "test", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
