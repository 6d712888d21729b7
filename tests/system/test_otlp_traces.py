"""Traces connect producers to counts, and log lines to traces."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from exporter_process import PROGRAM, ExporterProcess
from fake_sqs import FakeSqs
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import aws_attributes, messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from otlp_receiver import OtlpReceiver, attributes_of

from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = (aws_attributes, messaging_attributes, error_attributes, server_attributes)
CONVENTIONS = {value for source in SOURCES for value in vars(source).values() if isinstance(value, str)}
EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'
AT_ONCE = ("--shutdown.timeout", "0s")
"""Nobody waits for an empty long poll."""
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
W3C = {"traceparent": {"DataType": "String", "StringValue": f"00-{TRACE}-{SPAN}-01"}}
XRAY = {"AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}


def links_of(span: Span) -> dict[tuple[str, str], dict[str, object]]:
    """Return the attributes of a span's links by what they point to."""
    return {(link.trace_id.hex(), link.span_id.hex()): attributes_of(link.attributes) for link in span.links}


def test_a_batch_is_one_span_that_links_to_its_receive_and_to_each_producer(tmp_path: Path) -> None:
    """W3C's context and X-Ray's become links; what carries none, or nonsense, is counted all the same."""
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        sqs.send([EVENT] * 3, message_attributes=W3C)
        (message_id,) = sqs.send([EVENT], system_attributes=XRAY)
        sqs.send([EVENT], message_attributes={"traceparent": {"DataType": "String", "StringValue": "00-nonsense"}})
        sqs.send([EVENT], system_attributes={"AWSTraceHeader": "Root=1-0-0"})
        with ExporterProcess(sqs.environment | receiver.environment, tmp_path / "ledger.db", *AT_ONCE) as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 6)
            process = receiver.wait_for_span("process events")
            receive = receiver.wait_for_span("receive events")
            delete = receiver.wait_for_span("delete events")
            assert exporter.terminate() == 0
    assert links_of(process) == {
        (receive.trace_id.hex(), receive.span_id.hex()): {},
        (TRACE, SPAN): {names.BATCH_COUNT: 3},
        ("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"): {names.MESSAGE_ID: message_id},
    }
    assert (receive.kind, process.kind, delete.kind) == (
        Span.SPAN_KIND_CLIENT,
        Span.SPAN_KIND_CONSUMER,
        Span.SPAN_KIND_CLIENT,
    )
    for span, operation_type in ((receive, "receive"), (process, "process"), (delete, "settle")):
        attributes = attributes_of(span.attributes)
        assert attributes.keys() <= CONVENTIONS
        assert attributes[names.SYSTEM] == "aws_sqs"
        assert attributes[names.DESTINATION] == "events"
        assert attributes[names.OPERATION_TYPE] == operation_type
        assert attributes[names.BATCH_COUNT] == 6
        assert span.status.code == Status.STATUS_CODE_UNSET
        assert span.start_time_unix_nano < span.end_time_unix_nano
    assert receive.end_time_unix_nano <= process.start_time_unix_nano + 1_000_000
    assert process.end_time_unix_nano <= delete.end_time_unix_nano
    for span in (receive, delete):
        attributes = attributes_of(span.attributes)
        assert attributes[names.SERVER_PORT] == sqs.port
        assert str(attributes[names.QUEUE_URL]).endswith("/events")
        assert attributes[names.REQUEST_ID]


def test_a_flood_of_messages_does_not_become_a_flood_of_spans(tmp_path: Path) -> None:
    """Per iteration there is one span with a bounded number of links, and empty long polls have none."""
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        for number in range(30):
            sqs.send(
                [EVENT],
                message_attributes={
                    "traceparent": {"DataType": "String", "StringValue": f"00-{TRACE}-{number + 1:016x}-01"}
                },
            )
        sqs.load(1_000, seed=1)
        variables = receiver.environment | {"OTEL_SPAN_LINK_COUNT_LIMIT": "5", "OTEL_METRICS_EXPORTER": "none"}
        arguments = (*AT_ONCE, "--sqs.wait-seconds", "1")
        with ExporterProcess(sqs.environment | variables, tmp_path / "ledger.db", *arguments) as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 1_030)
            polls = sqs.account().calls["ReceiveMessage"]
            sqs.wait_until(lambda account: account.calls["ReceiveMessage"] > polls + 2)
            assert exporter.terminate() == 0
    assert not receiver.pushed
    spans = {
        name: [span for span in receiver.spans if span.name == f"{name} events"]
        for name in ("receive", "process", "delete")
    }
    assert len(receiver.spans) == sum(map(len, spans.values()))
    assert 0 < len(spans["process"]) <= len(spans["receive"]) <= 200
    assert all(attributes_of(span.attributes)[names.BATCH_COUNT] for span in spans["receive"])
    assert max(len(span.links) + span.dropped_links_count for span in spans["process"]) <= 5


def test_failures_are_spans_with_error_type_and_log_lines_name_their_trace(tmp_path: Path) -> None:
    """A failed receive, a failed delete and a message that is no event lead from the log to the trace."""
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        sqs.fault("error", "ReceiveMessage", code="ThrottlingException", status=400, times=1)
        sqs.fault("failed_entries", "DeleteMessageBatch", entries=1, times=1)
        sqs.send(["not an event"])
        with ExporterProcess(sqs.environment | receiver.environment, tmp_path / "ledger.db", *AT_ONCE) as exporter:
            throttled = receiver.wait_for_span("receive events", lambda span: bool(span.status.code))
            unconfirmed = receiver.wait_for_span("delete events", lambda span: bool(span.status.code))
            process = receiver.wait_for_span("process events")
            assert exporter.terminate() == 0
            lines = {line["msg"]: line for line in exporter.log}
    assert attributes_of(throttled.attributes)[names.ERROR_TYPE] == "throttled"
    assert attributes_of(unconfirmed.attributes)[names.ERROR_TYPE] == "server"
    assert throttled.status.code == unconfirmed.status.code == Status.STATUS_CODE_ERROR
    for message, span in (
        ("receive failed", throttled),
        ("deletes not confirmed, they are tried again", unconfirmed),
        ("message is not an event", process),
    ):
        assert (lines[message]["trace_id"], lines[message]["span_id"]) == (span.trace_id.hex(), span.span_id.hex())
    assert "trace_id" not in lines["starting"]


def test_produce_sends_its_trace_context(tmp_path: Path) -> None:
    """From the span that sent a batch to the span that counted it, through the real programs."""
    with OtlpReceiver() as receiver, FakeSqs() as sqs:
        variables = sqs.environment | receiver.environment
        subprocess.run(
            [str(PROGRAM), "produce", "--queue", "events", "--count", "10", "--seed", "1"],
            env={"PATH": os.environ["PATH"], **variables},
            check=True,
            timeout=30,
            stdout=subprocess.DEVNULL,
        )
        send = receiver.wait_for_span("send events")
        assert send.kind == Span.SPAN_KIND_PRODUCER
        assert attributes_of(send.attributes)[names.BATCH_COUNT] == 10
        assert receiver.span_resources[0][names.SERVICE_NAME] == "sqs-event-exporter-producer"
        with ExporterProcess(variables, tmp_path / "ledger.db", *AT_ONCE) as exporter:
            process = receiver.wait_for_span("process events")
            assert exporter.terminate() == 0
    assert links_of(process)[send.trace_id.hex(), send.span_id.hex()] == {names.BATCH_COUNT: 10}
