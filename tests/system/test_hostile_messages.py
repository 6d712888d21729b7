"""Whoever may put a message into the queue is a stranger: what one sends changes no number but its own.

`HYPOTHESIS_PROFILE=soak` runs more of it: more generated bodies, larger answers.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from event_reference import reference
from exporter_process import SCRAPE_SECONDS, ExporterProcess
from fake_sqs import FakeSqs
from hostile import CASES, large_cases
from hostile_strategies import bodies
from hostile_traffic import NEIGHBOUR, SOAK, Expected, cpu_seconds, literal, outcome_on_the_wire, peak_mib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import path_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_server import prometheus

from exporter.events.event import MAX_BODY_BYTES, NANO, Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_CPU_SECONDS = 0.05
PEAK_MIB = 256
"""What docs/security.md promises."""
FLOOD = 100_000
DEBUG_AND_QUICK_END = ("--log.level", "debug", "--shutdown.timeout", "100ms")
MESSAGES_OF_THE_LOG = {
    "starting",
    "the ledger is new: counts start at 0, and messages that were counted elsewhere are not recognised",
    "queue found",
    "ready",
    "message is not an event",
    "batch delete failed, it is tried again",
    "deletes not confirmed, they are tried again",
    "receive failed",
    "messages can't be used",
    "waiting for the queue",
    "queue can be asked again",
    "not ready",
    "stopping",
    "stopped",
    "long polls abandoned: what SQS handed to them comes back after the visibility timeout",
}


def send(sqs: FakeSqs, outcomes: list[tuple[bytes, Event | str]], expected: Expected) -> None:
    """Put the bodies into the queue, each beside a neighbour that has to be counted, and expect what they become."""
    for start in range(0, len(outcomes), 50):
        some = outcomes[start : start + 50]
        sqs.send(raw=list(chain.from_iterable((literal(body), literal(NEIGHBOUR)) for body, _ in some)))
        for _, outcome in some:
            expected.add(outcome)
            expected.add(Event(("neighbour",), NANO // 10, None))


def log_is_sound(exporter: ExporterProcess) -> None:
    """Assert that each line of the log is a record that the exporter wrote, in ASCII, and that they are few."""
    assert len(exporter.log) == len(exporter.stderr)
    assert {line["msg"] for line in exporter.log} <= MESSAGES_OF_THE_LOG
    assert "".join(exporter.stderr).isascii()
    assert len(exporter.stderr) < 100


@pytest.fixture(scope="module")
def after_the_corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ExporterProcess, Expected]]:
    """Send the whole corpus to an exporter; return it and what it has to show."""
    expected = Expected()
    with (
        FakeSqs() as sqs,
        ExporterProcess(
            sqs.environment, tmp_path_factory.mktemp("corpus") / "ledger.db", *DEBUG_AND_QUICK_END
        ) as exporter,
    ):
        cases = (*CASES, *large_cases())
        send(sqs, [(case.body, outcome_on_the_wire(case.body, case.outcome)) for case in cases], expected)
        exporter.wait_for(lambda scrape: scrape.received >= expected.messages)
        sqs.wait_until(lambda account: account.deleted == expected.messages)
        yield exporter, expected


def test_the_corpus_and_its_neighbours_are_counted_exactly(
    after_the_corpus: tuple[ExporterProcess, Expected],
) -> None:
    """All bodies, up to 1 MiB and 100,000 levels, with a good one beside each: counts, sums and reasons are right."""
    exporter, expected = after_the_corpus
    expected.is_shown_by(exporter.scrape())
    assert peak_mib(exporter.pid) <= PEAK_MIB
    log_is_sound(exporter)


def test_every_parser_reads_what_the_corpus_leaves_behind(
    after_the_corpus: tuple[ExporterProcess, Expected], tmp_path: Path
) -> None:
    """Prometheus itself, promtool and prometheus_client's OpenMetrics parser see the types as they were sent."""
    exporter, expected = after_the_corpus
    _, text = exporter.get("/metrics")
    checked = subprocess.run(
        [path_of("promtool", "prometheus"), "check", "metrics"],
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    assert b"error" not in checked.stderr + checked.stdout
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{exporter.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(request, timeout=SCRAPE_SECONDS) as answer:  # noqa: S310 - our own
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    counts = {sample.labels["type"]: sample.value for sample in samples if sample.name == "sqs_events_total"}
    assert {name for name, count in counts.items() if count} == expected.types.keys()
    with prometheus(tmp_path, [exporter.port]) as server:
        for name, (count, _, _) in expected.types.items():
            server.wait_until(f"sum(sqs_events_total{{type={json.dumps(name, ensure_ascii=False)}}})", count)


def test_each_type_is_one_line_of_the_summary(after_the_corpus: tuple[ExporterProcess, Expected]) -> None:
    """Quotes, line separators and right-to-left marks stay inside the JSON of their line."""
    exporter, expected = after_the_corpus
    exporter.terminate()
    lines = [json.loads(line) for line in exporter.stdout]
    assert {(line["type"], line["count"]) for line in lines} >= {
        (name, count) for name, (count, _, _) in expected.types.items()
    }
    assert all(line.keys() == {"type", "count", "sum"} for line in lines)
    log_is_sound(exporter)


@pytest.fixture(scope="module")
def long_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeSqs, ExporterProcess, Expected]]:
    """Start an exporter that admits whatever type comes."""
    ledger = tmp_path_factory.mktemp("generated") / "ledger.db"
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, "--events.max-types", "10000") as exporter:
        yield sqs, exporter, Expected()


@settings(
    derandomize=True,
    database=None,
    max_examples=200 if SOAK else 25,
    deadline=None,  # a busy machine is not a finding
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(sent=st.lists(bodies(), min_size=20, max_size=60))
def test_generated_bodies_are_what_a_second_opinion_says(
    long_running: tuple[FakeSqs, ExporterProcess, Expected], sent: list[bytes]
) -> None:
    """Events, JSON, noise and bodies with some bytes changed, among neighbours: each is what the reference says."""
    sqs, exporter, expected = long_running
    opinions = [(body, reference(body)) for body in sent]
    send(sqs, [(body, outcome) for body, outcome in opinions if outcome is not None], expected)
    exporter.wait_for(lambda scrape: scrape.received >= expected.messages)
    expected.is_shown_by(exporter.scrape())


def body_of(unit: str) -> bytes:
    """Return an event of 1 MiB that is the unit over and over in a key that nobody reads."""
    before, after = '{"type": "large", "value": 1, "x": "', '"}'
    return (before + unit * ((MAX_BODY_BYTES - len(before) - len(after)) // len(unit.encode())) + after).encode()


@pytest.mark.parametrize(
    ("large", "times"),
    [
        pytest.param(json.dumps(body_of(r"\"").decode()).encode(), 2, id="all quotes"),
        pytest.param(
            b'"' + b"".join(b"\\u%04x" % byte for byte in body_of("a")) + b'"',
            6,
            id="all escapes",
            marks=pytest.mark.skipif(not SOAK, reason="takes half a minute: HYPOTHESIS_PROFILE=soak runs it"),
        ),
    ],
)
def test_ten_messages_of_1_mib_for_every_receive_in_flight_take_bounded_memory_and_time(
    tmp_path: Path, large: bytes, times: int
) -> None:
    """With all 16 receives in flight each is answered by 20 MiB or more: no more than 256 MiB are ever resident."""
    assert len(large) > 0.99 * times * MAX_BODY_BYTES
    warm, count = 400, 160
    with FakeSqs() as sqs:
        sqs.send([NEIGHBOUR.decode()] * warm)
        for _ in range(count // 10):
            sqs.send(raw=[large] * 10)
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
            started = cpu_seconds(exporter.pid)
            scrape = exporter.wait_for(lambda scrape: scrape.received >= warm + count, 90)
            sqs.wait_until(lambda account: account.deleted == warm + count)
            assert scrape.by("sqs_events_total", "type") == {"__other__": 0, "neighbour": warm, "large": count}
            assert peak_mib(exporter.pid) <= PEAK_MIB
            assert cpu_seconds(exporter.pid) - started < count * MAX_CPU_SECONDS
            assert exporter.healthy()
            log_is_sound(exporter)


def test_a_flood_of_rejected_messages_does_not_flood_the_log(tmp_path: Path) -> None:
    """100,000 messages that are no event, for five reasons: a handful of lines each, and exact counts."""
    with FakeSqs() as sqs:
        sqs.load(FLOOD, seed=5, invalid_fraction=1.0)
        with ExporterProcess(
            sqs.environment, tmp_path / "ledger.db", "--log.level", "debug", "--until-empty"
        ) as exporter:
            assert exporter.wait(90) == 0
            rejections = [line for line in exporter.log if line["msg"] == "message is not an event"]
            assert len({line["reason"] for line in rejections}) == 5
            assert len(rejections) <= 5 * 5 * 2
            log_is_sound(exporter)
            exporter.start()
            assert exporter.scrape().agrees_with(sqs.account())
            assert exporter.scrape().rejected == FLOOD


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_no_line_of_the_log_can_be_forged(tmp_path: Path, log_format: str) -> None:
    """Line breaks and escapes in ids, bodies and types, and in what an endpoint says, stay inside their line."""
    forgery = '\n{"level": "error", "msg": "forged"}\r\nlevel=error msg=forged\x1b[2J\u2028\u202e" msg=forged'
    body = json.dumps({"type": forgery, "value": 1})
    with FakeSqs() as sqs:
        sqs.send([body, forgery, "1", body], ids=[forgery, "a" + forgery, "b" * 10_000 + forgery, "\ud800"])
        for operation in ("ReceiveMessage", "DeleteMessageBatch", "GetQueueAttributes"):
            sqs.fault("error", operation, times=1, code=f"Forged{forgery}", message=forgery, status=400)
            sqs.fault("error", operation, times=1, code="AccessDenied", message=forgery, status=403)
        flags = ("--log.format", log_format, "--log.level", "debug", "--until-empty")
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", *flags, start=False) as exporter:
            exporter.launch()
            exporter.wait()
    lines = exporter.stderr
    assert not any("Traceback" in line for line in lines)
    begins = '{"time": "20' if log_format == "json" else "time=20"
    assert [line for line in lines if not line.startswith(begins)] == []
    assert "".join(lines).isascii()
    assert "".join(lines).isprintable()
    if log_format == "json":
        messages = {json.loads(line)["msg"] for line in lines}
        assert {message for message in messages if not message.startswith("The attributes of")} <= MESSAGES_OF_THE_LOG
    assert sum("message is not an event" in line for line in lines) >= 3
    assert max(map(len, lines)) < 2_000
