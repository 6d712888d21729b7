"""What /metrics shows, compared as text with a fresh registry, and read back by the parsers of those who scrape it."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from programs import path_of
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter import sqs
from exporter.events import event
from exporter.ledger import ERROR_REASONS, SeriesTotals, Snapshot
from exporter.summary import Summary
from exporter.telemetry.metrics import Health, LedgerCollector, StateCollector, names, new_registry
from exporter.telemetry.metrics.batch_histogram import BatchHistogram
from exporter.telemetry.metrics.state import State
from exporter.web.exposition import expose

if TYPE_CHECKING:
    from prometheus_client import Metric

NANO = event.NANO
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Series = dict[tuple[str, ...], SeriesTotals]

LEDGER_AND_QUEUE = {"ledger", "queue"}
TABLE = {
    "sqs_events_total": ("counter", {"ledger", "queue", "type"}),
    "sqs_event_value_total": ("counter", {"ledger", "queue", "type"}),
    "sqs_event_negative_value_total": ("counter", {"ledger", "queue", "type"}),
    "sqs_event_last_occurred_timestamp_seconds": ("gauge", {"ledger", "queue", "type"}),
    "sqs_event_age_seconds": ("histogram", {"queue"}),
    "sqs_message_age_seconds": ("histogram", {"queue"}),
    "sqs_queue_messages": ("gauge", {"ledger", "queue", "state"}),
    "sqs_dead_letter_queue_messages": ("gauge", {"ledger", "queue", "dead_letter_queue"}),
    "sqs_queue_info": ("gauge", {"ledger", "queue", "account", "region"}),
    "sqs_queue_visibility_timeout_seconds": ("gauge", LEDGER_AND_QUEUE),
    "sqs_queue_retention_seconds": ("gauge", LEDGER_AND_QUEUE),
    "sqs_exporter_messages_received_total": ("counter", LEDGER_AND_QUEUE),
    "sqs_exporter_messages_duplicate_total": ("counter", LEDGER_AND_QUEUE),
    "sqs_exporter_messages_rejected_total": ("counter", {"ledger", "queue", "reason"}),
    "sqs_exporter_messages_released_total": ("counter", {"ledger", "queue", "reason"}),
    "sqs_exporter_events_overflowed_total": ("counter", {"ledger", "queue", "limit"}),
    "sqs_exporter_events_without_id_total": ("counter", LEDGER_AND_QUEUE),
    "sqs_exporter_events_forgotten_total": ("counter", LEDGER_AND_QUEUE),
    "sqs_exporter_messages_deleted_total": ("counter", {"queue"}),
    "sqs_exporter_message_delete_failures_total": ("counter", {"queue", "reason"}),
    "sqs_exporter_receive_errors_total": ("counter", {"queue", "reason"}),
    "sqs_exporter_receives_in_flight": ("gauge", {"queue"}),
    "sqs_exporter_requests_total": ("counter", {"queue", "operation"}),
    "sqs_exporter_request_duration_seconds": ("histogram", {"queue", "operation"}),
    "sqs_exporter_commit_duration_seconds": ("histogram", set()),
    "sqs_exporter_last_successful_receive_timestamp_seconds": ("gauge", {"queue"}),
    "sqs_exporter_timestamps_unreadable_total": ("counter", LEDGER_AND_QUEUE),
    "sqs_exporter_ready": ("gauge", {"queue"}),
    "sqs_exporter_ledger_errors_total": ("counter", {"reason"}),
    "sqs_exporter_ledger_messages": ("gauge", LEDGER_AND_QUEUE),
    "sqs_exporter_ledger_unsettled_messages": ("gauge", LEDGER_AND_QUEUE),
    "sqs_exporter_ledger_oldest_message_timestamp_seconds": ("gauge", LEDGER_AND_QUEUE),
    "sqs_exporter_ledger_forgotten_early_total": ("counter", LEDGER_AND_QUEUE),
    "sqs_exporter_ledger_max_messages": ("gauge", {"ledger"}),
    "sqs_exporter_ledger_commit_started_timestamp_seconds": ("gauge", set()),
    "sqs_exporter_ledger_volume_available_bytes": ("gauge", set()),
    "sqs_exporter_clock_skew_seconds": ("gauge", set()),
    "sqs_exporter_speaker": ("gauge", set()),
    "sqs_exporter_otlp_push_failures_total": ("counter", {"signal"}),
    "sqs_exporter_log_lines_dropped_total": ("counter", set()),
    "sqs_exporter_build_info": ("gauge", {"version", "revision", "python"}),
}
IN_THE_LEDGER = {
    "sqs_events_total",
    "sqs_event_value_total",
    "sqs_event_negative_value_total",
    "sqs_event_last_occurred_timestamp_seconds",
    "sqs_exporter_messages_received_total",
    "sqs_exporter_messages_duplicate_total",
    "sqs_exporter_messages_rejected_total",
    "sqs_exporter_messages_released_total",
    "sqs_exporter_events_overflowed_total",
    "sqs_exporter_events_without_id_total",
    "sqs_exporter_events_forgotten_total",
    "sqs_exporter_timestamps_unreadable_total",
    "sqs_exporter_ledger_forgotten_early_total",
}

SNAPSHOT = Snapshot(
    ledger="shop",
    queue_name="orders",
    queue_arn="arn:aws:sqs:eu-west-1:000000000000:orders",
    created_seconds=1_600_000_000.0,
    instance_id="8f14",
    label_names=(),
    series={
        ("purchase",): SeriesTotals(75, 650 * NANO, 12_340_000_000, 1_700_000_000.0, 1_600_000_100.0),
        ("__other__",): SeriesTotals(2, 10_000_000, 0, None, 1_600_000_200.0),
    },
    received=100,
    duplicate=12,
    rejected={"invalid_json": 7, "invalid_value": 1},
    released={"md5_mismatch": 3},
    timestamps_unreadable=4,
    forgotten_early=5,
    overflowed={"types": 2, "series": 0},
    without_event_id=0,
    events_forgotten=0,
    messages=85,
    unsettled_messages=6,
    oldest_message_seconds=1_700_000_000.5,
)
LABELLED = replace(
    SNAPSHOT,
    label_names=("currency", "country"),
    series={
        ("purchase", "EUR", "DE"): SeriesTotals(50, 500 * NANO + 1, 0, 1_700_000_000.0, 1_600_000_100.0),
        ("purchase", "EUR", ""): SeriesTotals(20, 100 * NANO + 1, NANO, 1_700_000_009.0, 1_600_000_050.0),
        ("purchase", "__other__", "__other__"): SeriesTotals(5, 50 * NANO + 1, 0, None, 1_600_000_100.0),
        ("refund", "", ""): SeriesTotals(2, 0, 2 * NANO, None, 1_600_000_200.0),
    },
    overflowed={"types": 0, "series": 5},
)
DEPTH = sqs.QueueDepth(visible=31, in_flight=20, delayed=None, dead_letter_queue="orders-dead", dead_letter_visible=2)
ATTRIBUTES = sqs.QueueAttributes("orders", "arn:aws:sqs:eu-west-1:000000000000:orders", 30, 345_600)


def collector_of(*snapshots: Snapshot, label_names: tuple[str, ...] = ()) -> LedgerCollector:
    """Make a collector of these snapshots, and of the queue `orders` where there is any."""
    return LedgerCollector(
        ledger=lambda: "shop",
        snapshots=lambda: {snapshot.queue_name: snapshot for snapshot in snapshots},
        attributes=lambda: {"orders": ATTRIBUTES} if snapshots else {},
        depths=lambda: {"orders": DEPTH} if snapshots else {},
        max_messages=2_000_000,
        label_names=label_names,
    )


def collector_of_latest(latest: list[Snapshot]) -> LedgerCollector:
    """Make a collector of the snapshot that is first in a list at the time of a scrape."""
    return LedgerCollector(
        ledger=lambda: "shop",
        snapshots=lambda: {"orders": latest[0]},
        attributes=dict,
        depths=dict,
        max_messages=2_000_000,
    )


STATE = State(
    ready=lambda: {"orders": True},
    volume_available_bytes=lambda: 10**9,
    clock_skew_seconds=lambda: -0.5,
    otlp_push_failures=lambda: {"metrics": 0, "traces": 3},
    log_lines_dropped=lambda: 0,
)


def whole_registry(*snapshots: Snapshot, label_names: tuple[str, ...] = ()) -> CollectorRegistry:
    """Register everything that the program does, with one queue."""
    registry = new_registry()
    Health(registry).take_up("orders")
    registry.register(collector_of(*(snapshots or (SNAPSHOT,)), label_names=label_names))
    registry.register(StateCollector(STATE))
    return registry


def full_name(family: Metric) -> str:
    """Return the name as people write it, a counter's with its suffix."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def ours(families: dict[str, Metric]) -> dict[str, Metric]:
    """Leave out those of the library."""
    return {name: family for name, family in families.items() if name.startswith("sqs_")}


def collect(registry: CollectorRegistry) -> dict[str, Metric]:
    """Return every family by its name."""
    return {full_name(family): family for family in registry.collect()}


def test_a_snapshot_is_shown_as_exactly_this_text() -> None:
    """Every name, help text, label and number of what the ledger holds, and nothing else."""
    registry = CollectorRegistry()
    registry.register(collector_of(SNAPSHOT))
    registry.register(StateCollector(STATE))
    text = expose(registry, "", (), created_timestamps=False).body.decode()
    text = re.sub(r'python="[^"]*"(.*)version="[^"]*"', r'python="3"\1version="0"', text)
    assert text == Path(__file__).with_name("metrics_of_a_snapshot.txt").read_text()


def test_names_types_and_labels_are_those_of_the_table() -> None:
    """Nothing is missing, nothing is extra, and every series carries exactly its labels."""
    families = ours(collect(whole_registry()))
    assert {name: family.type for name, family in families.items()} == {name: kind for name, (kind, _) in TABLE.items()}
    for name, family in families.items():
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == TABLE[name][1], sample


def test_help_says_which_numbers_survive_a_restart() -> None:
    """Who reads the help text learns which counters live in the ledger."""
    families = ours(collect(whole_registry()))
    assert {name for name, family in families.items() if "survives restarts" in family.documentation} == IN_THE_LEDGER
    assert all("Starts at 0" in f.documentation for n, f in families.items() if f.type == "histogram"), families


def test_the_process_and_python_are_shown() -> None:
    """The library's own collectors are part of the registry, and can be asked for by name."""
    registry = whole_registry()
    body = expose(registry, "", ["process_cpu_seconds_total", "python_info"], created_timestamps=False).body.decode()
    assert "\nprocess_cpu_seconds_total " in body
    assert "\npython_info{" in body


def test_every_label_value_known_in_advance_is_there_at_zero() -> None:
    """Prometheus sees the first failure as an increase, because its series exists before."""
    families = collect(whole_registry())
    for name, label, values in (
        ("sqs_exporter_receive_errors_total", "reason", sqs.REASONS),
        ("sqs_exporter_message_delete_failures_total", "reason", sqs.REASONS),
        ("sqs_exporter_ledger_errors_total", "reason", ERROR_REASONS),
        ("sqs_exporter_request_duration_seconds", "operation", ("receive", "delete")),
    ):
        samples = [s for s in families[name].samples if s.name.endswith(("_total", "_count"))]
        assert [s.labels[label] for s in samples] == list(values)
        assert {s.value for s in samples} == {0.0}
    rejected = families["sqs_exporter_messages_rejected_total"].samples
    assert {s.labels["reason"] for s in rejected} == set(event.REASONS)


def test_what_is_not_known_is_absent_and_not_0() -> None:
    """Before a queue is known and SQS has answered nothing is made up."""
    registry = CollectorRegistry()
    registry.register(collector_of())
    registry.register(StateCollector(State(ready=lambda: {"orders": False}, log_lines_dropped=lambda: 0)))
    shown = {
        full_name(family): [sample.value for sample in family.samples if not sample.name.endswith("_created")]
        for family in registry.collect()
        if family.samples
    }
    assert shown == {
        "sqs_exporter_ledger_max_messages": [2_000_000],
        "sqs_exporter_ready": [0],
        "sqs_exporter_ledger_commit_started_timestamp_seconds": [0],
        "sqs_exporter_speaker": [1],
        "sqs_exporter_log_lines_dropped_total": [0],
        "sqs_exporter_build_info": [1],
    }


def test_registering_collects_nothing() -> None:
    """The registry learns the names from `describe`, so that nobody has to be ready when it is built."""

    def not_now() -> Any:  # noqa: ANN401 - it stands in for every place to look
        pytest.fail("collected")

    registry = new_registry()
    registry.register(
        LedgerCollector(ledger=not_now, snapshots=not_now, attributes=not_now, depths=not_now, max_messages=1)
    )
    registry.register(StateCollector(State(ready=not_now)))


def test_a_replica_that_does_not_speak_shows_its_health_alone() -> None:
    """Nothing of the ledger and nothing of the queues: nobody has to take the greatest of several copies."""
    registry = CollectorRegistry()
    registry.register(
        LedgerCollector(
            ledger=lambda: "shop",
            snapshots=lambda: {"orders": SNAPSHOT},
            attributes=lambda: {"orders": ATTRIBUTES},
            depths=lambda: {"orders": DEPTH},
            max_messages=1,
            speaking=lambda: False,
        )
    )
    registry.register(StateCollector(State(ready=lambda: {"orders": True}, speaking=lambda: False)))
    shown = {full_name(family): family.samples for family in registry.collect() if family.samples}
    assert not any("ledger" in sample.labels for samples in shown.values() for sample in samples)
    assert shown["sqs_exporter_speaker"][0].value == 0


def test_everything_that_the_ledger_keeps_and_all_that_is_said_of_a_queue_carries_the_ledger_s_name() -> None:
    """And nothing else does: the one relabelling rule makes it the instance."""
    families = ours(collect(whole_registry()))
    with_ledger = {name for name, family in families.items() if "ledger" in family.samples[0].labels}
    about_queues = {name for name in families if name.startswith(("sqs_queue_", "sqs_dead_letter_queue_"))}
    memory = {"messages", "unsettled_messages", "oldest_message_timestamp_seconds", "max_messages"}
    assert with_ledger == IN_THE_LEDGER | about_queues | {f"sqs_exporter_ledger_{name}" for name in memory}
    assert {family.samples[0].labels["ledger"] for name, family in families.items() if name in with_ledger} == {"shop"}


def totals_of(registry: CollectorRegistry, name: str, event_type: str) -> float:
    """Return what `sum by (type)` gives: Prometheus compensates for rounding as `fsum` does."""
    return math.fsum(
        sample.value
        for sample in collect(registry)[name].samples
        if sample.labels["type"] == event_type and sample.name.endswith("_total")
    )


def summary_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the lines of the summary."""
    stream = io.StringIO()
    summary = Summary(lambda: {"orders": snapshot}, stream, 3600, show_queue=False)
    summary.start()
    summary.stop()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_labels_are_on_the_three_counters_and_empty_where_an_event_has_none() -> None:
    """The newest event is shown by type alone."""
    families = collect(whole_registry(LABELLED, label_names=LABELLED.label_names))
    totals = {
        name: [sample.labels for sample in families[name].samples if sample.name.endswith("_total")]
        for name in families
    }
    for name in ("sqs_events_total", "sqs_event_value_total", "sqs_event_negative_value_total"):
        expected = {"ledger": "shop", "queue": "orders", "type": "purchase", "currency": "EUR", "country": ""}
        assert totals[name][1] == expected
    newest = {s.labels["type"]: s.value for s in families["sqs_event_last_occurred_timestamp_seconds"].samples}
    assert newest == {"purchase": 1_700_000_009.0}


cents = st.integers(0, 10**11).map(lambda number: number * 10_000_000)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 10**12), cents, cents), min_size=1, max_size=40))
def test_the_sum_by_type_of_all_labels_is_the_summary_to_the_last_digit(
    found: list[tuple[str, int, int, int]],
) -> None:
    """Counts are equal as they are, money to the cent, though each series is rounded to a float when it is written."""
    series: Series = {
        (kind, str(number)): SeriesTotals(count, value, negative, None, 0.0)
        for number, (kind, count, value, negative) in enumerate(found)
    }
    snapshot = replace(SNAPSHOT, label_names=("currency",), series=series)
    registry = CollectorRegistry()
    registry.register(collector_of(snapshot, label_names=("currency",)))
    for line in summary_of(snapshot):
        kind = line["type"]
        assert totals_of(registry, "sqs_events_total", kind) == line["count"]
        net = totals_of(registry, "sqs_event_value_total", kind) - totals_of(
            registry, "sqs_event_negative_value_total", kind
        )
        assert round(net, 2) == round(line["sum"], 2)


def test_no_age_bucket_is_more_than_one_and_a_half_times_the_one_before() -> None:
    """From 1 s to 6 h, so that a quantile is right within a quarter."""
    within = [bound for bound in names.AGE_BUCKETS if 1 <= bound <= 6 * 3600]
    assert (within[0], within[-1]) == (1, 6 * 3600)
    assert all(upper <= 1.5 * lower for lower, upper in pairwise(within))


def test_a_hundred_idle_queues_are_a_small_scrape() -> None:
    """Each has its counters at 0; histograms, which are most of the lines, begin with their first observation."""
    registry = CollectorRegistry()
    health = Health(registry)
    for number in range(100):
        health.take_up(f"queue-{number}")
    samples = [sample for family in registry.collect() for sample in family.samples]
    of_the_last = [sample for sample in samples if sample.labels.get("queue") == "queue-99"]
    assert not any(sample.name.endswith("_bucket") for sample in of_the_last)
    assert {sample.labels["reason"] for sample in of_the_last if "reason" in sample.labels} == set(sqs.REASONS)
    assert len(expose(registry, "", (), created_timestamps=False).body) < 600_000
    health.observe_message_ages("queue-99", [2.0])
    after = [sample for family in registry.collect() for sample in family.samples]
    assert len(after) == len(samples) + len(names.AGE_BUCKETS) + 4


@pytest.mark.parametrize("name", sorted(TABLE))
def test_each_name_can_be_asked_for_alone(name: str) -> None:
    """`?name[]=` finds every family; a histogram by the names of its series."""
    asked = f"{name}_count" if TABLE[name][0] == "histogram" else name
    body = expose(whole_registry(), "", [asked], created_timestamps=False).body.decode()
    series = [line for line in body.splitlines() if not line.startswith("#")]
    assert series
    assert all(line.startswith(asked) for line in series)


def test_health_counts_what_it_is_told() -> None:
    """Each method moves its own series and no other."""
    registry = CollectorRegistry()
    health = Health(registry)
    health.take_up("orders")
    health.take_up("refunds")
    before = {(s.name, *s.labels.items()): s.value for f in registry.collect() for s in f.samples}
    health.messages_deleted("orders", 7)
    health.delete_failed("orders", "throttled", 3)
    health.receive_failed("orders", "tls")
    health.receive_succeeded("orders", 1_700_000_000.25)
    health.set_receives_in_flight("orders", 16)
    health.requests_made("orders", "receive", 5)
    health.requests_made("orders", "get_queue_attributes", 1)
    health.observe_requests("orders", "delete", [0.25])
    health.observe_commit(0.0002)
    health.ledger_failed("full")
    health.observe_event_ages("orders", [0.0, 2.5, -1.0])
    health.observe_message_ages("orders", [4.0])
    after = {(s.name, *s.labels.items()): s.value for f in registry.collect() for s in f.samples}
    queue = ("queue", "orders")
    moved = {
        key: value
        for key, value in after.items()
        if value != before.get(key) and not str(key[0]).endswith(("_bucket", "_created"))
    }
    assert moved == {
        ("sqs_exporter_messages_deleted_total", queue): 7,
        ("sqs_exporter_message_delete_failures_total", queue, ("reason", "throttled")): 3,
        ("sqs_exporter_receive_errors_total", queue, ("reason", "tls")): 1,
        ("sqs_exporter_last_successful_receive_timestamp_seconds", queue): 1_700_000_000.25,
        ("sqs_exporter_receives_in_flight", queue): 16,
        ("sqs_exporter_requests_total", queue, ("operation", "receive")): 5,
        ("sqs_exporter_requests_total", queue, ("operation", "get_queue_attributes")): 1,
        ("sqs_exporter_request_duration_seconds_count", queue, ("operation", "delete")): 1,
        ("sqs_exporter_request_duration_seconds_sum", queue, ("operation", "delete")): 0.25,
        ("sqs_exporter_commit_duration_seconds_count",): 1,
        ("sqs_exporter_commit_duration_seconds_sum",): 0.0002,
        ("sqs_exporter_ledger_errors_total", ("reason", "full")): 1,
        ("sqs_event_age_seconds_count", queue): 3,
        ("sqs_event_age_seconds_sum", queue): 2.5,
        ("sqs_message_age_seconds_count", queue): 1,
        ("sqs_message_age_seconds_sum", queue): 4.0,
    }
    assert after["sqs_exporter_commit_duration_seconds_bucket", ("le", "0.0001")] == 0
    assert after["sqs_exporter_commit_duration_seconds_bucket", ("le", "0.00025")] == 1


@given(st.lists(st.lists(st.integers(0, 10**6).map(lambda eighths: eighths / 8)), max_size=5))
def test_a_batch_histogram_reads_like_the_library_s(batches: list[list[float]]) -> None:
    """Whatever is observed, the text is that of a prometheus_client histogram that saw the values one by one."""
    name = names.EVENT_AGE
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = BatchHistogram(name, ours)
    histogram.begin(("orders",))
    reference = Histogram(*name.instrument, buckets=names.AGE_BUCKETS, registry=theirs).labels("orders")
    for batch in batches:
        histogram.observe(("orders",), batch)
        for value in batch:
            reference.observe(value)
    for accept in ("", OPENMETRICS):
        mine = expose(ours, accept, (), created_timestamps=False)
        assert mine == expose(theirs, accept, (), created_timestamps=False)
    created = f"{name.name}_created"
    assert [s.name for f in ours.collect() for s in f.samples if s.name == created] == [created]


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.0"),
        (1, "1e-09"),
        (10_000_000, "0.01"),
        (650 * NANO, "650.0"),
        (123_456_780_000_000, "123456.78"),
        (99_999_999_999 * 10_000_000, "9.9999999999e+08"),
        (5_000_000 * 10_000_000, "50000.0"),
        (10**15 * NANO, "1e+15"),
    ],
)
def test_sums_are_written_as_they_are(nano: int, text: str) -> None:
    """Whole numbers and cents come out as people write them, or as Go does where they are large."""
    series: Series = {("purchase",): SeriesTotals(1, nano, nano, None, 0.0)}
    body = generate_latest(whole_registry(replace(SNAPSHOT, series=series))).decode()
    assert f'sqs_event_value_total{{ledger="shop",queue="orders",type="purchase"}} {text}\n' in body
    assert f'sqs_event_negative_value_total{{ledger="shop",queue="orders",type="purchase"}} {text}\n' in body


HOSTILE_TYPES = [
    'a"b',
    "a\\b",
    "a\\nb",
    "ünïcode ☃",
    "\u202egnp.exe",
    "{}",
    "le=1",
    "#",
    " ",
    "a,b",
    "x" * 128,
    "😀" * 64,
]


@pytest.mark.parametrize("accept", ["", "text/plain; version=1.0.0; escaping=allow-utf-8", OPENMETRICS])
def test_hostile_type_names_are_read_back_as_they_are(accept: str) -> None:
    """No name of a type breaks the text or forges a series: both parsers give back the names and numbers."""
    series: Series = {(name, name): SeriesTotals(n, 0, 0, None, 0.0) for n, name in enumerate(HOSTILE_TYPES, start=1)}
    snapshot = replace(SNAPSHOT, label_names=("currency",), series=series)
    exposition = expose(whole_registry(snapshot, label_names=("currency",)), accept, (), created_timestamps=True)
    parse = parse_openmetrics if accept == OPENMETRICS else parse_text
    read = {
        (sample.labels["type"], sample.labels["currency"]): sample.value
        for family in parse(exposition.body.decode())
        for sample in family.samples
        if sample.name == "sqs_events_total"
    }
    assert read == {labels: totals.count for labels, totals in series.items()}


def test_created_timestamps_are_openmetrics_only_and_survive_a_restart() -> None:
    """They come from the ledger where the counter does, and no other format is made to carry them."""
    registry = whole_registry()
    for accept, wanted in (("", True), (OPENMETRICS, False)):
        assert b"_created" not in expose(registry, accept, (), created_timestamps=wanted).body
    families = parse_openmetrics(expose(registry, OPENMETRICS, (), created_timestamps=True).body.decode())
    created = {(s.name, s.labels.get("type")): s.value for f in families for s in f.samples if "_created" in s.name}
    assert created["sqs_events_created", "purchase"] == 1_600_000_100.0
    assert created["sqs_event_value_created", "__other__"] == 1_600_000_200.0
    assert created["sqs_exporter_messages_received_created", None] == 1_600_000_000.0
    assert abs(created["sqs_exporter_messages_deleted_created", None] - time.time()) < 60


def test_promtool_finds_nothing_to_say() -> None:
    """Prometheus' own linter reads all of it and has no complaint; it knows the text format alone."""
    promtool = path_of("promtool", "prometheus")
    body = expose(whole_registry(), "", (), created_timestamps=False).body
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_in_every_scrape_nothing_is_lost_track_of() -> None:
    """A scrape reads one snapshot: received = counted + duplicate + rejected + released while commits go on."""
    latest = [SNAPSHOT]
    done = threading.Event()

    def commit() -> None:
        n = 0
        while not done.is_set():
            n += 1
            kinds: Series = {(f"type-{i}",): SeriesTotals(n + i, n, n, None, 0.0) for i in range(20)}
            counted = sum(totals.count for totals in kinds.values())
            latest[0] = replace(
                SNAPSHOT,
                series=kinds,
                duplicate=2 * n,
                rejected={"invalid_json": 3 * n},
                released={"commit_failed": n},
                received=counted + 6 * n,
            )

    registry = CollectorRegistry()
    registry.register(collector_of_latest(latest))
    latest[0] = replace(SNAPSHOT, received=SNAPSHOT.counted + 12 + 8 + 3)
    committer = threading.Thread(target=commit)
    committer.start()
    try:
        for _ in range(100):
            sums = {
                full_name(f): sum(s.value for s in f.samples if s.name.endswith("_total")) for f in registry.collect()
            }
            assert sums["sqs_exporter_messages_received_total"] == (
                sums["sqs_events_total"]
                + sums["sqs_exporter_messages_duplicate_total"]
                + sums["sqs_exporter_messages_rejected_total"]
                + sums["sqs_exporter_messages_released_total"]
            )
    finally:
        done.set()
        committer.join()


def test_samples_of_series_that_no_commit_changed_are_those_of_the_scrape_before() -> None:
    """Of the others they are new; a series that is no longer there is not shown."""
    kinds: Series = {(f"type-{n}",): SeriesTotals(n, n * NANO, 0, None, 0.0) for n in range(3)}
    latest = [replace(SNAPSHOT, series=kinds)]
    collector = collector_of_latest(latest)

    def collected() -> list[Any]:
        return next(family.samples for family in collector.collect() if family.name == "sqs_events")

    before = collected()
    latest[0] = replace(SNAPSHOT, series={**kinds, ("type-1",): SeriesTotals(5, NANO, 0, None, 0.0)})
    after = collected()
    assert [one is other for one, other in zip(after, before, strict=True)] == [True, True, False, False, True, True]
    assert [sample.value for sample in after] == [0, 0, 5, 0, 2, 0]
    del kinds["type-0",]
    latest[0] = replace(SNAPSHOT, series=kinds)
    assert [sample.value for sample in collected()] == [1, 0, 2, 0]


def test_a_scrape_during_a_batch_sees_all_of_it_or_nothing() -> None:
    """A histogram's buckets, count and sum agree in every scrape, whatever the loop observes meanwhile."""
    registry = CollectorRegistry()
    health = Health(registry)
    health.take_up("orders")
    done = threading.Event()

    def observe() -> None:
        while not done.is_set():
            health.observe_event_ages("orders", [1.0] * 100)

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        for _ in range(100):
            samples = {s.name: s.value for s in collect(registry)["sqs_event_age_seconds"].samples}
            assert samples["sqs_event_age_seconds_count"] == samples["sqs_event_age_seconds_sum"]
            assert samples["sqs_event_age_seconds_bucket"] % 100 == 0
    finally:
        done.set()
        observer.join()


def test_a_scrape_costs_the_same_however_many_were_counted() -> None:
    """At the cap of 200 types it takes milliseconds, and nothing in it grows with the number of messages."""

    def best_seconds(scale: int) -> float:
        series: Series = {(f"type-{n}",): SeriesTotals(scale + n, scale * NANO, NANO, 1.7e9, 1.6e9) for n in range(200)}
        registry = whole_registry(replace(SNAPSHOT, series=series, received=scale, messages=scale))
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            expose(registry, "", (), created_timestamps=False)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    few, many = best_seconds(10), best_seconds(10**9)
    assert few < 0.1
    assert many < 3 * few + 0.02


def test_build_info_names_version_revision_and_python() -> None:
    """One series tells what runs."""
    registry = CollectorRegistry()
    registry.register(StateCollector(State(ready=dict, revision="0118a94")))
    labels = collect(registry)["sqs_exporter_build_info"].samples[0].labels
    assert labels["revision"] == "0118a94"
    assert labels["version"]
    assert labels["python"].startswith("3.")
    assert os.linesep not in "".join(labels.values())
