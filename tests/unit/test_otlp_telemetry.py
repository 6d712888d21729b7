"""Which calls and batches become spans, how many at most, and what is measured of all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from exporter.sqs.answers import Deleted, Deletion, Failed, Message, Received
from exporter.telemetry.otlp import names
from exporter.telemetry.otlp.measurements import Measurements
from exporter.telemetry.otlp.telemetry import SpanBudget, Telemetry, Tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from exporter.sqs.answers import Answer

MESSAGE = Message("m", "h", b"{}", 1.0, None, None, None)
SERVER: dict[str, str | int] = {names.SERVER_ADDRESS: "sqs.example", names.SERVER_PORT: 443}


class Told:
    """A Telemetry, the clock of its budget, and what it has said."""

    def __init__(self, *, share: float = 1.0, burst: int = 100, per_second: float = 10.0) -> None:
        self.now = 0.0
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.measurements = Measurements(SERVER)
        self.telemetry = Telemetry(
            Tracing(provider.get_tracer("test"), share, SpanBudget(burst, per_second, lambda: self.now), 128),
            self.measurements,
            server=SERVER,
            queue_url={"orders": "https://sqs.example/1/orders"}.get,
        )

    def tell_of(self, answer: Answer) -> None:
        """Tell of an iteration with one call, which is sampled, and without a batch."""
        assert self.telemetry.answered([answer])
        with self.telemetry.call(answer):
            pass

    def process(self, *received: Received) -> None:
        """Begin a batch of these, and commit it at once."""
        with self.telemetry.processing(received):
            pass
        self.telemetry.recorded()

    def iterate(self, answers: Sequence[Answer]) -> None:
        """Tell of an iteration whose batch is committed at once."""
        if self.telemetry.answered(answers):
            for answer in answers:
                with self.telemetry.call(answer):
                    pass
        self.process(*(answer for answer in answers if isinstance(answer, Received)))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Those that have ended."""
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> Sequence[Any]:
        """Return the data points of one metric of a push."""
        metrics = {metric.name: metric for metric in self.measurements.metrics(time.time_ns())}
        return list(metrics[name].data.data_points)


def received(seconds: float = 0.02) -> Received:
    """Make an answer with two messages."""
    return answered([MESSAGE, MESSAGE], seconds)


def answered(messages: list[Message], seconds: float, queue: str = "orders") -> Received:
    """Make an answer."""
    return Received(
        queue=queue,
        messages=messages,
        released={},
        sent_at=100.0,
        answered_at=100.0 + seconds,
        visibility_timeout_seconds=30,
        allowed_seconds=25.0,
    )


def deleted(seconds: float, reason: str = "") -> Deleted:
    """Make an answer to a batch delete of one or, where the reason is given for which one of them failed, two."""
    deletion = Deletion(b"", "", 0.0)
    failed = [(deletion, reason)] if reason else []
    return Deleted("orders", [deletion], failed, 100.0, 100.0 + seconds)


def test_in_a_flood_whole_iterations_have_no_spans_and_all_are_measured() -> None:
    """Three iterations of two receives fit into a burst of eight spans; later as many as the rate allows."""
    told = Told(burst=8, per_second=3.0)
    for _ in range(10):
        told.iterate([received(), received()])
    assert [span.name for span in told.spans] == ["receive orders", "receive orders", "process orders"] * 3
    told.now += 2.0
    for _ in range(10):
        told.iterate([received(), received()])
    assert len(told.spans) == 9 + 6
    (point,) = told.points(names.OPERATION_DURATION)
    assert point.count == 40
    (point,) = told.points(names.CONSUMED_MESSAGES)
    assert point.value == 80


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.25, 30, 75), (1.0, 200, 200)])
def test_a_share_of_iterations_is_sampled_before_a_span_is_made(share: float, least: int, most: int) -> None:
    """None, about a quarter (the chance of less than 30 or more than 75 of 200 is below 1e-4), or all of them."""
    told = Told(share=share, burst=10_000)
    for _ in range(200):
        told.iterate([received()])
    assert least <= sum(span.name == "process orders" for span in told.spans) <= most
    assert len(told.spans) % 2 == 0


def test_an_empty_long_poll_is_neither_a_span_nor_measured_nor_paid_for() -> None:
    """It takes as long as it waits, and leaves the budget to what brought something."""
    told = Told(burst=1, per_second=0.0)
    for _ in range(5):
        assert not told.telemetry.answered([answered([], 20.0)])
    assert told.telemetry.answered([received()])
    (point,) = told.points(names.OPERATION_DURATION)
    assert point.count == 1


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_batch_ends_with_its_commit_and_says_whether_it_was_recorded(*, succeeds: bool) -> None:
    """A commit may take a while: the span and the duration go on until its outcome is known."""
    told = Told()
    told.tell_of(received())
    with told.telemetry.processing([received()]):
        pass
    assert [span.name for span in told.spans] == ["receive orders"]
    (told.telemetry.recorded if succeeds else told.telemetry.not_recorded)()
    told.telemetry.recorded()  # of a flush, which is no batch
    _, span = told.spans
    (point,) = told.points(names.PROCESS_DURATION)
    for attributes in (span.attributes, point.attributes):
        assert attributes is not None
        assert attributes.get(names.ERROR_TYPE) == (None if succeeds else "ledger_unavailable")
        assert attributes[names.DESTINATION] == "orders"
    assert span.status.status_code is (StatusCode.UNSET if succeeds else StatusCode.ERROR)
    assert point.count == 1


def test_receives_of_several_iterations_are_links_of_the_batch_that_they_are_gathered_for() -> None:
    """While a commit is under way, answers wait for the next: none is forgotten, and none linked to twice."""
    told = Told()
    for receives in (3, 2):
        for _ in range(receives):
            told.tell_of(received())
        told.process(received())
        assert told.spans[-1].name == "process orders"
        assert len(told.spans[-1].links) == receives


def test_a_batch_whose_receives_were_not_sampled_has_no_span() -> None:
    """Whether a delete was, which is answered between two batches, says nothing about the next one."""
    told = Told()
    told.tell_of(deleted(0.1))
    told.process(received())
    assert [span.name for span in told.spans] == ["delete orders"]


def test_a_receive_that_brought_nothing_usable_is_no_part_of_a_later_batch() -> None:
    """Such answers may come for hours: nothing is kept of them, and no batch links to them."""
    told = Told()
    for _ in range(5):
        told.tell_of(replace(answered([], 0.1), released={"md5_mismatch": 3}))
    told.tell_of(received())
    told.process(received())
    assert [link.context for link in told.spans[-1].links] == [told.spans[-2].context]


def test_a_span_names_the_request_by_the_id_that_sqs_gave_it() -> None:
    """AWS's support asks for it; without one there is no attribute."""
    told = Told()
    told.iterate([replace(received(), headers=(b"HTTP/1.1 200 OK\r\n", b"x-amzn-RequestId: 6f0b-1\r\n")), received()])
    with_one, without, _ = told.spans
    assert with_one.attributes is not None
    assert with_one.attributes[names.REQUEST_ID] == "6f0b-1"
    assert without.attributes is not None
    assert names.REQUEST_ID not in without.attributes


def test_a_span_says_which_queue_by_url_and_a_batch_of_several_queues_names_none() -> None:
    """Where the conventions have one name, a batch of two has no right one."""
    told = Told()
    told.iterate([received(), answered([MESSAGE], 0.1, "refunds")])
    orders, refunds, process = told.spans
    assert orders.attributes is not None
    assert orders.attributes[names.QUEUE_URL] == "https://sqs.example/1/orders"
    assert refunds.attributes is not None
    assert names.QUEUE_URL not in refunds.attributes
    assert process.name == "process"
    assert process.attributes is not None
    assert names.DESTINATION not in process.attributes


def test_no_series_ends_before_it_began() -> None:
    """Where the clock was set back after the start: backends drop such a point."""
    told = Told()
    told.iterate([received()])
    for metric in told.measurements.metrics(now_nano=1):
        for point in metric.data.data_points:
            assert point.time_unix_nano >= point.start_time_unix_nano > 1, metric.name


def test_durations_are_counted_in_the_conventions_buckets_by_operation_and_error() -> None:
    """Each on its side of a bound, with their sum; calls carry the server's address."""
    told = Told()
    told.telemetry.answered(
        [
            received(0.005),
            received(0.006),
            received(20.0),
            Failed("orders", "receive", "throttled", "slow down", (), 100.0, 100.5),
            deleted(0.25, "server"),
        ]
    )
    points = {
        (point.attributes[names.OPERATION_NAME], point.attributes.get(names.ERROR_TYPE)): point
        for point in told.points(names.OPERATION_DURATION)
    }
    assert points.keys() == {("receive", None), ("receive", "throttled"), ("delete", "server")}
    point = points["receive", None]
    assert list(point.bucket_counts) == [1, 1, *([0] * 12), 1]
    assert (point.count, point.sum) == (3, pytest.approx(20.011))
    assert point.attributes.items() >= SERVER.items()
