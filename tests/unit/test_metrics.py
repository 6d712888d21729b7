"""What /metrics shows, compared as text with a fresh registry, and read back by the parsers of those who scrape it."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import path_of
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter import sqs
from exporter.events import event
from exporter.ledger import ERROR_REASONS, OTHER_TYPE, Snapshot, TypeTotals
from exporter.telemetry.metrics import Health, LedgerCollector, names, new_registry
from exporter.telemetry.metrics.batch_histogram import BatchHistogram
from exporter.web.exposition import expose

if TYPE_CHECKING:
    from prometheus_client import Metric

NANO = event.NANO
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

TABLE = {
    "sqs_events_total": ("counter", {"queue", "type"}),
    "sqs_event_value_total": ("counter", {"queue", "type"}),
    "sqs_event_negative_value_total": ("counter", {"queue", "type"}),
    "sqs_event_last_occurred_timestamp_seconds": ("gauge", {"queue", "type"}),
    "sqs_event_age_seconds": ("histogram", {"queue"}),
    "sqs_message_age_seconds": ("histogram", {"queue"}),
    "sqs_queue_messages": ("gauge", {"queue", "state"}),
    "sqs_dead_letter_queue_messages": ("gauge", {"queue", "dead_letter_queue"}),
    "sqs_exporter_messages_received_total": ("counter", {"queue"}),
    "sqs_exporter_messages_duplicate_total": ("counter", {"queue"}),
    "sqs_exporter_messages_rejected_total": ("counter", {"queue", "reason"}),
    "sqs_exporter_messages_released_total": ("counter", {"queue", "reason"}),
    "sqs_exporter_messages_deleted_total": ("counter", {"queue"}),
    "sqs_exporter_message_delete_failures_total": ("counter", {"queue", "reason"}),
    "sqs_exporter_receive_errors_total": ("counter", {"queue", "reason"}),
    "sqs_exporter_receives_in_flight": ("gauge", {"queue"}),
    "sqs_exporter_request_duration_seconds": ("histogram", {"queue", "operation"}),
    "sqs_exporter_commit_duration_seconds": ("histogram", set()),
    "sqs_exporter_last_successful_receive_timestamp_seconds": ("gauge", {"queue"}),
    "sqs_exporter_timestamps_unreadable_total": ("counter", {"queue"}),
    "sqs_exporter_ready": ("gauge", {"queue"}),
    "sqs_exporter_ledger_errors_total": ("counter", {"reason"}),
    "sqs_exporter_ledger_messages": ("gauge", set()),
    "sqs_exporter_ledger_unsettled_messages": ("gauge", set()),
    "sqs_exporter_ledger_oldest_message_timestamp_seconds": ("gauge", set()),
    "sqs_exporter_ledger_forgotten_early_total": ("counter", set()),
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
    "sqs_exporter_timestamps_unreadable_total",
    "sqs_exporter_ledger_forgotten_early_total",
}

SNAPSHOT = Snapshot(
    queue_name="orders",
    queue_arn="arn:aws:sqs:eu-west-1:000000000000:orders",
    created_seconds=1_600_000_000.0,
    types={
        "purchase": TypeTotals(75, 650 * NANO, 12_340_000_000, 1_700_000_000.0, 1_600_000_100.0),
        OTHER_TYPE: TypeTotals(2, 10_000_000, 0, None, 1_600_000_200.0),
    },
    received=100,
    duplicate=12,
    rejected={"invalid_json": 7, "invalid_value": 1},
    released={"md5_mismatch": 3},
    timestamps_unreadable=4,
    forgotten_early=5,
    messages=85,
    unsettled_messages=6,
    oldest_message_seconds=1_700_000_000.5,
    instance_id="8f14",
)
DEPTH = sqs.QueueDepth(visible=31, in_flight=20, delayed=None, dead_letter_queue="orders-dead", dead_letter_visible=2)


def whole_registry(snapshot: Snapshot | None = SNAPSHOT, depth: sqs.QueueDepth | None = DEPTH) -> CollectorRegistry:
    """Register everything that the program does."""
    registry = new_registry()
    Health(registry, "orders")
    collector = LedgerCollector("orders", snapshot=lambda: snapshot, depth=lambda: depth, ready=lambda: True)
    registry.register(collector)
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
    collector = LedgerCollector("orders", snapshot=lambda: SNAPSHOT, depth=lambda: DEPTH, ready=lambda: True)
    registry.register(collector)
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


def test_without_a_ledger_and_without_a_depth_only_readiness_and_build_are_known() -> None:
    """Nothing is made up before the ledger is open and SQS has answered: such series are absent, not 0."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector("orders", snapshot=lambda: None, depth=lambda: None, ready=lambda: False))
    shown = {full_name(family): [s.value for s in family.samples] for family in registry.collect() if family.samples}
    assert shown == {"sqs_exporter_ready": [0], "sqs_exporter_build_info": [1]}


def test_registering_collects_nothing() -> None:
    """The registry learns the names from `describe`, so that nobody has to be ready when it is built."""

    def not_now() -> None:
        pytest.fail("collected")

    registry = new_registry()
    registry.register(LedgerCollector("orders", snapshot=not_now, depth=not_now, ready=lambda: False))


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
    health = Health(registry, "orders")
    before = {(s.name, *s.labels.items()): s.value for f in registry.collect() for s in f.samples}
    health.messages_deleted(7)
    health.delete_failed("throttled", 3)
    health.receive_failed("tls")
    health.receive_succeeded(1_700_000_000.25)
    health.set_receives_in_flight(16)
    health.observe_requests("delete", [0.25])
    health.observe_commit(0.0002)
    health.ledger_failed("full")
    health.observe_event_ages([0.0, 2.5, -1.0])
    health.observe_message_ages([4.0])
    after = {(s.name, *s.labels.items()): s.value for f in registry.collect() for s in f.samples}
    queue = ("queue", "orders")
    moved = {key: value for key, value in after.items() if value != before[key] and not str(key[0]).endswith("_bucket")}
    assert moved == {
        ("sqs_exporter_messages_deleted_total", queue): 7,
        ("sqs_exporter_message_delete_failures_total", queue, ("reason", "throttled")): 3,
        ("sqs_exporter_receive_errors_total", queue, ("reason", "tls")): 1,
        ("sqs_exporter_last_successful_receive_timestamp_seconds", queue): 1_700_000_000.25,
        ("sqs_exporter_receives_in_flight", queue): 16,
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
    histogram = BatchHistogram(name, [("orders",)], names.AGE_BUCKETS, ours)
    reference = Histogram(*name, buckets=names.AGE_BUCKETS, registry=theirs).labels("orders")
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
    types = {"purchase": TypeTotals(1, nano, nano, None, 0.0)}
    body = generate_latest(whole_registry(replace(SNAPSHOT, types=types))).decode()
    assert f'sqs_event_value_total{{queue="orders",type="purchase"}} {text}\n' in body
    assert f'sqs_event_negative_value_total{{queue="orders",type="purchase"}} {text}\n' in body


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
    types = {name: TypeTotals(n, 0, 0, None, 0.0) for n, name in enumerate(HOSTILE_TYPES, start=1)}
    exposition = expose(whole_registry(replace(SNAPSHOT, types=types)), accept, (), created_timestamps=True)
    parse = parse_openmetrics if accept == OPENMETRICS else parse_text
    read = {
        sample.labels["type"]: sample.value
        for family in parse(exposition.body.decode())
        for sample in family.samples
        if sample.name == "sqs_events_total"
    }
    assert read == {name: totals.count for name, totals in types.items()}


def test_created_timestamps_are_openmetrics_only_and_survive_a_restart() -> None:
    """They come from the ledger where the counter does, and no other format is made to carry them."""
    registry = whole_registry()
    for accept, wanted in (("", True), (OPENMETRICS, False)):
        assert b"_created" not in expose(registry, accept, (), created_timestamps=wanted).body
    families = parse_openmetrics(expose(registry, OPENMETRICS, (), created_timestamps=True).body.decode())
    created = {(s.name, s.labels.get("type")): s.value for f in families for s in f.samples if "_created" in s.name}
    assert created["sqs_events_created", "purchase"] == 1_600_000_100.0
    assert created["sqs_event_value_created", OTHER_TYPE] == 1_600_000_200.0
    assert created["sqs_exporter_messages_received_created", None] == 1_600_000_000.0
    assert abs(created["sqs_exporter_messages_deleted_created", None] - time.time()) < 60


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_promtool_finds_nothing_to_say(accept: str) -> None:
    """Prometheus' own linter reads all of it and has no complaint."""
    promtool = path_of("promtool", "prometheus")
    body = expose(whole_registry(), accept, (), created_timestamps=False).body
    # promtool reads the text format alone, which differs from OpenMetrics in the last line and the counters' metadata.
    if accept == OPENMETRICS:
        assert list(parse_openmetrics(body.decode()))
        return
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
            kinds = {f"type-{i}": TypeTotals(n + i, n, n, None, 0.0) for i in range(20)}
            counted = sum(totals.count for totals in kinds.values())
            latest[0] = replace(
                SNAPSHOT,
                types=kinds,
                duplicate=2 * n,
                rejected={"invalid_json": 3 * n},
                released={"commit_failed": n},
                received=counted + 6 * n,
            )

    registry = CollectorRegistry()
    registry.register(LedgerCollector("orders", snapshot=lambda: latest[0], depth=lambda: None, ready=lambda: True))
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


def test_a_scrape_during_a_batch_sees_all_of_it_or_nothing() -> None:
    """A histogram's buckets, count and sum agree in every scrape, whatever the loop observes meanwhile."""
    registry = CollectorRegistry()
    health = Health(registry, "orders")
    done = threading.Event()

    def observe() -> None:
        while not done.is_set():
            health.observe_event_ages([1.0] * 100)

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
        types = {f"type-{n}": TypeTotals(scale + n, scale * NANO, NANO, 1.7e9, 1.6e9) for n in range(200)}
        registry = whole_registry(replace(SNAPSHOT, types=types, received=scale, messages=scale))
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
    collector = LedgerCollector(
        "orders", snapshot=lambda: None, depth=lambda: None, ready=lambda: True, revision="0118a94"
    )
    registry.register(collector)
    labels = collect(registry)["sqs_exporter_build_info"].samples[0].labels
    assert labels["revision"] == "0118a94"
    assert labels["version"]
    assert labels["python"].startswith("3.")
    assert os.linesep not in "".join(labels.values())
