"""The dashboard's queries and the shipped scrape rule, asked of a real Prometheus about simulated exporters."""

from __future__ import annotations

import itertools
import math
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml
from dashboard_queries import PANELS, QUERIES, ROOT, Query
from prometheus_server import WAIT_SECONDS, Prometheus, free_port, prometheus, write_history
from simulated_exporter import (
    AGE_BUCKETS,
    HOUR,
    MINUTE,
    WEEK,
    Series,
    always,
    exposition,
    growing,
    histogram,
    ledger,
    openmetrics,
    process,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

JOB = {"job": "shop"}
TARGET = {**JOB, "instance": "exporter:9797"}
STRANGER = {"job": "other", "instance": "other:80"}
HISTORY_SECONDS = 70 * MINUTE


def everything() -> list[Series]:
    """Return all series of an exporter and those that Prometheus records of it, and another job; one alert fires."""
    alert = {"alertname": "SqsExporterOverflow", "alertstate": "firing", "severity": "warning", "queue": "events"}
    return [
        *process(TARGET),
        *ledger(JOB),
        Series("up", STRANGER, always(0.0)),
        Series("process_start_time_seconds", STRANGER, always(2000.0)),
        Series("process_cpu_seconds_total", STRANGER, growing(1.0)),
        Series("process_resident_memory_bytes", STRANGER, always(8e9)),
        Series("instance:sqs_exporter:up", TARGET, always(1.0)),
        Series("ALERTS", {**JOB, "instance": "orders", "ledger": "orders", **alert}, always(1.0)),
    ]


def history(interval_seconds: float, now: float) -> Iterator[str]:
    """Yield what was scraped of an exporter until now at an interval, and what it had counted a week ago."""
    series = everything()
    events = [one for one in series if one.name.startswith("sqs_event") and "ledger" in one.labels]
    for line in openmetrics(events, now - WEEK - 2 * HOUR, 2 * HOUR, 10 * MINUTE):
        if not line.startswith("#"):
            yield line
    shown = [one._replace(value=later(one.value, WEEK)) for one in series]
    yield from openmetrics(shown, now - HISTORY_SECONDS, HISTORY_SECONDS, interval_seconds)


def later(value: Callable[[float], float | None], seconds: float) -> Callable[[float], float | None]:
    """Return the value as it is some time later."""
    return lambda at: value(at + seconds)


def the_query(panel: str, containing: str) -> Query:
    """Return the query of the panel that asks for the metric."""
    (found,) = [query for query in QUERIES if query.panel == panel and containing in query.expr]
    return found


class Scraped(NamedTuple):
    """A Prometheus that has scraped an exporter at an interval, until a time."""

    interval_seconds: int
    until_seconds: float
    server: Prometheus


@pytest.fixture(scope="module", params=[5, 15, 30, 60], ids=lambda seconds: f"every {seconds} s")
def scraped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Give a Prometheus for each interval."""
    folder = tmp_path_factory.mktemp("scraped")
    now = math.floor(time.time())
    write_history(folder, history(request.param, now))
    with prometheus(folder) as server:
        yield Scraped(request.param, now, server)


def test_every_query_of_every_panel_has_data_at_any_scrape_interval(scraped: Scraped) -> None:
    """With the data source's interval set to that of the job, no panel is empty and no number is 0 / 0."""
    empty = []
    for query in QUERIES:
        expr = query.filled_in(__rate_interval=f"{4 * scraped.interval_seconds}s")
        found = scraped.server.query(expr, scraped.until_seconds)
        if not found or all(math.isnan(value) for value in found.values()):
            empty.append((query.panel, query.legend))
    assert empty == []


def test_lines_have_no_gaps_at_any_scrape_interval(scraped: Scraped) -> None:
    """Asked for half an hour as Grafana asks, each step of each chart over time has a point, and none is 0 / 0."""
    step, half_an_hour = max(5, scraped.interval_seconds), 30 * MINUTE
    window = max(step + scraped.interval_seconds, 4 * scraped.interval_seconds)
    end = scraped.until_seconds // step * step
    over_weeks = {panel["title"] for panel in PANELS if "timeFrom" in panel}  # a point an hour or a day
    gaps = {}
    for query in QUERIES:
        if not query.over_time or query.panel in over_weeks:
            continue
        asked = {"query": query.filled_in(__rate_interval=f"{window}s"), "step": str(step)}
        found = scraped.server.get("query_range", start=str(end - half_an_hour), end=str(end), **asked)["result"]
        points = {at for series in found for at, value in series["values"] if not math.isnan(float(value))}
        if missing := half_an_hour // step + 1 - len(points):
            gaps[query.panel, query.legend] = missing
    assert gaps == {}


def test_nothing_of_another_job_is_shown(scraped: Scraped) -> None:
    """A stranger's dead target doesn't make "Ready" say no, and no panel names it, with all jobs chosen."""
    for query in QUERIES:
        expr = query.filled_in(__rate_interval=f"{4 * scraped.interval_seconds}s")
        found = scraped.server.get("query", query=expr, time=str(scraped.until_seconds))["result"]
        assert not any(one["metric"].get("instance") == STRANGER["instance"] for one in found), query.panel
    ready = the_query("Ready", "sqs_exporter_ready").filled_in()
    assert scraped.server.query(ready, scraped.until_seconds) == {"{}": 1.0}


def test_no_data_reads_as_no_data(tmp_path: Path) -> None:
    """A Prometheus that has seen no exporter has nothing to show on any panel, not even a 0."""
    with prometheus(tmp_path) as server:
        assert [query.panel for query in QUERIES if server.query(query.filled_in())] == []


STEADY_AGES = sorted(
    {
        *(1.0 * 1.37**step for step in range(32)),
        *(bound * factor for bound in AGE_BUCKETS if 1 <= bound < 21600 for factor in (1.0, 1.001)),
        21600.0,
    }
)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Give a Prometheus with a queue for each age, whose events and messages all are of that age."""
    folder = tmp_path_factory.mktemp("steady")
    series = [
        one
        for age in STEADY_AGES
        for name in ("sqs_event_age_seconds", "sqs_message_age_seconds")
        for one in histogram(name, {**TARGET, "queue": f"{age:.4f}"}, age, growing(1.0), AGE_BUCKETS)
    ]
    now = math.floor(time.time())
    write_history(folder, openmetrics(series, now - 5 * MINUTE, 5 * MINUTE, 15))
    with prometheus(folder) as server:
        yield Scraped(15, now, server)


@pytest.mark.parametrize(
    "query",
    [query for query in QUERIES if query.panel in {"Event age when counted", "Message age when counted"}],
    ids=lambda query: f"{query.panel} {query.legend}",
)
def test_steady_ages_are_right_within_a_quarter(steady: Scraped, query: Query) -> None:
    """From 1 s to 6 h, wherever in its bucket an age lies; buckets are 1.5 times the one before at most."""
    buckets = [bound for bound in AGE_BUCKETS if 1 <= bound <= 21600]
    assert all(after <= 1.5 * before for before, after in itertools.pairwise(buckets))
    found = steady.server.query(query.filled_in(), steady.until_seconds)
    assert len(found) == len(STEADY_AGES)
    wrong = {
        age: shown
        for age, shown in ((float(age), shown) for age, shown in found.items())
        if abs(shown / age - 1) > 0.25
    }
    assert wrong == {}


@contextmanager
def serving(port: int, series: Callable[[], Iterable[Series]]) -> Iterator[None]:
    """Serve an exposition on a port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition(series(), 0.0).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(WAIT_SECONDS)


def counted(number: float, name: str) -> Callable[[], list[Series]]:
    """Return what an exporter shows whose ledger has counted so many purchases."""
    return lambda: process({}) + ledger({}, name, types={"purchase": always(number)}, duplicate=always(0.0))


def test_an_exporter_that_moves_recounts_nothing(tmp_path: Path) -> None:
    """At another address its counters go on: one series, and increase() and the dashboard give what was sent."""
    ports = [free_port(), free_port()]
    with prometheus(tmp_path, ports, scrape_seconds=0.2) as server:
        for step, (port, number) in enumerate(zip((*ports, *ports), (1000, 1040, 1075, 1100), strict=True), start=1):
            with serving(port, counted(number, "orders")):
                server.wait_until("max(sqs_events_total)", number)
                server.wait_until(f"max(count_over_time(sqs_events_total[5m])) >= bool {10 * step}", 1)
        assert server.query("count by (instance) (last_over_time(sqs_events_total[5m]))") == {"orders": 1.0}
        assert server.query("count(count by (instance) (last_over_time(sqs_exporter_build_info[5m])))") == {"{}": 2.0}
        assert server.number("sum(max_over_time(sqs_events_total[5m]) - min_over_time(sqs_events_total[5m]))") == 100
        assert server.number("sum(resets(sqs_events_total[5m]))") == 0
        # It extrapolates to the ends of its window by half a scrape interval, here a fortieth, never by a thousand.
        assert server.number("sum(increase(sqs_events_total[5m]))") == pytest.approx(100, rel=0.1)
        total = the_query("Events in range", "sqs_events_total").filled_in(__range="1h")
        assert server.number(total) == 1100  # born inside the range, so it began at 0


def test_without_the_shipped_rule_it_would_recount_everything() -> None:
    """The rule is what the test above rests on: it renames the instance of what carries a ledger, and nothing else."""
    config = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    (rule,) = config["scrape_configs"][0]["metric_relabel_configs"]
    assert rule == {"source_labels": ["ledger"], "regex": "(.+)", "target_label": "instance"}


def test_two_ledgers_with_queues_of_one_name_under_one_job_stay_apart(tmp_path: Path) -> None:
    """Each ledger has its own series, no sample is thrown away as another's duplicate, and the sum is of both."""
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        server = stack.enter_context(prometheus(tmp_path, ports))
        stack.enter_context(serving(ports[0], counted(7, "orders")))
        stack.enter_context(serving(ports[1], counted(5, "returns")))
        server.wait_until("sum(sqs_events_total)", 12)
        assert server.query("sum by (ledger) (sqs_events_total)") == {"orders": 7.0, "returns": 5.0}
        assert server.query('sum by (instance) (sqs_queue_messages{state="visible"})') == {
            "orders": 0.0,
            "returns": 0.0,
        }
        chosen = the_query("Events in range", "sqs_events_total").filled_in(__range="1h", ledger="returns")
        assert server.number(chosen) == 5
        unaccounted = the_query("Unaccounted", "received").filled_in()
        assert server.number(unaccounted) == 0
        health = the_query("Ready", "sqs_exporter_ready").filled_in(instance=f"127.0.0.1:{ports[1]}")
        assert server.number(health) == 1
