"""A real Prometheus scrapes a real exporter on a known stream: totals, and every query of dashboard and rules.

Debian 12's Prometheus is 2.42. What it can't prove about 3.x: that UTF-8 names, the stricter Content-Type, left-open
ranges (a sample at the very start of a range belongs to one range instead of two) and native histograms change
nothing. The queries use none of them on purpose; `last_over_time` differs only in which range such a sample is in.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dashboard_queries import DASHBOARD, QUERIES, ROOT, Query
from exporter_process import ExporterProcess
from fake_sqs import Account, FakeSqs, TypeTotals
from outages import SHORT_WAIT
from programs import path_of
from prometheus_server import Prometheus, free_port, prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KNOWN_TYPES = ("added-to-basket", "pageview", "purchase", "refund")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((ROOT / "prometheus-rules.yml").read_text())["groups"] for rule in group["rules"]
]
EMPTY_WHEN_ALL_IS_WELL: dict[tuple[str, str], str] = {
    ("Alerts that fire", "A"): "nothing fires",
    ("Value, last hour", "last week"): "this Prometheus is minutes old",
    ("Value, last day", "last week"): "this Prometheus is minutes old",
    ("Events per hour, this week and last", "last week"): "this Prometheus is minutes old",
    ("Pushes that failed, log lines dropped", "{{instance}} {{signal}}"): "nothing is pushed over OTLP",
}
"""Panel and legend of queries that may return nothing, with the reason."""


@contextmanager
def exporter(folder: Path, sqs: FakeSqs, port: int) -> Iterator[None]:
    """Run the exporter with the ledger of the folder; leaving it is a SIGTERM, and the end must be in order."""
    flags = ("--events.types", ",".join(KNOWN_TYPES), "--events.max-types", "0", "--shutdown.timeout", "1s")
    with ExporterProcess(sqs.environment, folder / "ledger.db", *flags, *SHORT_WAIT, start=False) as running:
        running.port = port
        running.start()
        yield
        assert running.terminate() == 0, running.last_lines


def by_shown_type(account: Account) -> dict[str, TypeTotals]:
    """Return the truth as the exporter may show it: types beyond the known ones together."""
    shown = {name: TypeTotals(0, 0, 0) for name in (*KNOWN_TYPES, "__other__")}
    for name, totals in account.types.items():
        key = name if name in shown else "__other__"
        before = shown[key]
        shown[key] = replace(
            before,
            count=before.count + totals.count,
            value_nano=before.value_nano + totals.value_nano,
            negative_nano=before.negative_nano + totals.negative_nano,
        )
    return shown


@dataclass
class Story:
    """What happened: an account of the stream before and after the restart, and when Prometheus had seen it."""

    prometheus: Prometheus
    first: Account
    first_seconds: float
    second: Account
    second_seconds: float


def send(sqs: FakeSqs, seed: int) -> None:
    """Send something of everything: the usual mix, refunds, strange types and broken messages."""
    sqs.load(400, seed=seed, invalid_fraction=0.03)
    sqs.send(
        [
            '{"type": "refund", "value": -19.99, "occurred_at": "2020-10-06 10:02:05"}',
            '{"type": "refund", "value": "-0.000000001", "occurred_at": "yesterday"}',
            '{"type": "newsletter", "value": 0.1, "occurred_at": "2020-10-06 10:02:05"}',
            '{"type": "search", "value": 0.2, "occurred_at": "2020-10-06 10:02:05"}',
        ]
    )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Events, a restart of the exporter with events meanwhile, and more events; Prometheus has seen all of it."""
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    path_of("prometheus", "prometheus")
    with ExitStack() as stack:
        sqs = stack.enter_context(FakeSqs(duplicate_in_batch=0.05))
        sqs.create_queue("dead-letters")
        sqs.create_queue(attributes=sqs.gives_up_to("dead-letters"))
        server = stack.enter_context(prometheus(folder, [port]))

        def seen_by_prometheus() -> tuple[Account, float]:
            account = sqs.wait_until(lambda now: now.handed_out == now.sent)
            accounted = "sum(sqs_events_total) + sum(sqs_exporter_messages_rejected_total)"
            server.wait_until(accounted, account.counted + account.rejected)
            return account, time.time()

        with exporter(folder, sqs, port):
            server.wait_until('up{job="sqs-event-exporter"}', 1)
            send(sqs, seed=1)
            first, first_seconds = seen_by_prometheus()
        server.wait_until('up{job="sqs-event-exporter"}', 0)
        send(sqs, seed=2)
        with exporter(folder, sqs, port):
            server.wait_until('up{job="sqs-event-exporter"}', 1)
            seen_by_prometheus()
            send(sqs, seed=3)
            second, second_seconds = seen_by_prometheus()
            server.wait_until("count(instance:sqs_exporter:up)", 1)
            yield Story(server, first, first_seconds, second, second_seconds)


def the_query(panel: str, containing: str) -> Query:
    """Return the query of the panel that asks for the metric."""
    (found,) = [query for query in QUERIES if query.panel == panel and containing in query.expr]
    return found


def test_totals_of_the_whole_stream_agree_with_the_account(story: Story) -> None:
    """Counts and net values by type, over a restart between scrapes, are those of the sender, to the last digit."""
    truth = by_shown_type(story.second)
    counts = the_query("Top ten types in range", "sqs_events_total").filled_in(__range="1h")
    values = the_query("Top ten types in range", "negative").filled_in(__range="1h")
    assert story.prometheus.query(counts) == {name: totals.count for name, totals in truth.items()}
    assert story.prometheus.query(values) == {name: totals.value - totals.negative for name, totals in truth.items()}


def test_totals_of_a_range_that_holds_the_restart_agree_with_the_account(story: Story) -> None:
    """A range that begins after the first events and holds the restart has the events after them, and no other."""
    before, after = by_shown_type(story.first), by_shown_type(story.second)
    milliseconds = round((story.second_seconds - story.first_seconds) * 1000)
    query = the_query("Top ten types in range", "sqs_events_total").filled_in(__range=f"{milliseconds}ms")
    found = story.prometheus.query(query, story.second_seconds)
    assert found == {name: totals.count - before[name].count for name, totals in after.items()}


def test_nothing_is_unaccounted(story: Story) -> None:
    """Received = counted + duplicate + rejected + released, as Prometheus has it."""
    assert story.prometheus.query(the_query("Unaccounted", "received").filled_in()) == {"{}": 0.0}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.panel} {query.legend}")
def test_every_query_of_every_panel_returns_data(story: Story, query: Query) -> None:
    """No panel is empty, misspelt or refused."""
    found = story.prometheus.query(query.filled_in(__rate_interval="1m"))
    assert found or (query.panel, query.legend) in EMPTY_WHEN_ALL_IS_WELL


def test_every_variable_of_the_dashboard_has_values(story: Story) -> None:
    """Each choice on top of the dashboard offers something."""
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query" and variable["name"] != "cluster":  # which nobody has here
            metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            series = story.prometheus.get(
                "series", **{"match[]": re.sub(r"\$\w+", ".+", metric.replace("$cluster", ".*"))}
            )
            assert {found[label] for found in series}


def test_prometheus_evaluates_every_rule_without_an_error(story: Story) -> None:
    """All rules are loaded and healthy, annotations included."""
    (group,) = story.prometheus.get("rules")["groups"]
    assert len(group["rules"]) == len(RULES)
    for rule in group["rules"]:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule["name"]


@pytest.mark.parametrize("rule", [rule for rule in RULES if "record" in rule], ids=lambda rule: rule["record"])
def test_every_recording_rule_records(story: Story, rule: dict[str, Any]) -> None:
    """What dashboard and alerts share is there."""
    assert story.prometheus.query(rule["record"])


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_every_alert_reads_series_that_exist(story: Story, rule: dict[str, Any]) -> None:
    """An alert returns nothing when all is well; what it reads must be there all the same, or it could never fire."""
    story.prometheus.query(rule["expr"])
    text = re.sub(r'__name__=~"[^"]*"', "", rule["expr"])
    metrics = set(re.findall(r"\b(?:up|process_\w+|[\w:]*sqs_[\w:]+)\b", text))
    assert metrics
    for metric in metrics - {"sqs_exporter_otlp_push_failures_total"}:  # nothing is pushed over OTLP
        assert story.prometheus.query(f"count({{__name__={json.dumps(metric)}}})"), metric
