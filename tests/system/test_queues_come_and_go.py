"""Which queues are counted: found by a prefix, deleted, made again, left out; and what a queue costs that is idle.

Most of each test is waiting for SQS to be asked again, once a minute: they run side by side.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from hostile_traffic import cpu_seconds
from outages import SHORT_WAIT, Case, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55}'
LIST_SECONDS = 60.0
"""How often a prefix's queues are listed, and attributes are read."""
RECEIVES, ATTRIBUTES = "ReceiveMessage", "GetQueueAttributes"
QUOTA_IN_FLIGHT = 120_000
READY_SECONDS = 10.0
"""Half of a long poll."""
IDLE_QUEUES = 100
IDLE_CPU = 0.05
"""Of a core."""
DESCRIPTORS = 192
"""What the 16 receives of the default need."""
MANY_QUEUES = 40
MANY_QUEUES_DESCRIPTORS = 288
"""What a receive and deletes for each of them need, as much for the web server's clients, and the program's own."""


def counts(exporter: ExporterProcess) -> dict[str, float]:
    """Return how many events are counted, by queue."""
    by_queue: dict[str, float] = {}
    for (name, has), value in exporter.scrape().samples.items():
        if name == "sqs_events_total" and value:
            queue = dict(has)["queue"]
            by_queue[queue] = by_queue.get(queue, 0) + value
    return by_queue


def queues_of_a_prefix_come_and_go(ledger: Path) -> None:
    """One that appears is counted within a minute; one that is deleted is gone, its counts stay, and it may be back."""
    with FakeSqs(create=False) as sqs:
        for name in ("shop-a", "shop-b", "other"):
            sqs.create_queue(name)
            sqs.send([EVENT] * 3, queue_name=name)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, queue="shop-*") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 6)
            exporter.wait_until_told("Ready.")
            sqs.delete_queue("shop-a")
            exporter.wait_until_logged("queue is gone", queue="shop-a")
            assert exporter.wait_until_told("Ready.") == "Ready.\n", "nobody misses a queue that was deleted"
            scrape = exporter.scrape()
            assert not scrape.total("sqs_queue_messages_visible", queue="shop-a")
            assert "shop-a" not in scrape.by("sqs_exporter_ready", "queue")
            assert "the queue is gone" in exporter.get("/")[1]
            assert counts(exporter) == {"shop-a": 3, "shop-b": 3}
            sqs.create_queue("shop-a")
            sqs.send([EVENT] * 2, queue_name="shop-a")
            sqs.create_queue("shop-new")
            sqs.send([EVENT] * 4, queue_name="shop-new")
            started = time.monotonic()
            exporter.wait_for(lambda scrape: scrape.counted == 12, LIST_SECONDS + 30)
            assert time.monotonic() - started < LIST_SECONDS + 10, "an answer and a commit are not counted in"
            assert counts(exporter) == {"shop-a": 5, "shop-b": 3, "shop-new": 4}
            assert not any("Traceback" in line for line in exporter.stderr), exporter.last_lines


def a_named_queue_that_is_deleted_and_made_again_is_said_to_be(ledger: Path) -> None:
    """Show that the counts go on, as it has the ARN that it had, and that what it held is said to be lost."""
    with FakeSqs() as sqs:
        sqs.send([EVENT] * 3)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 3)
            exporter.wait_until_ready()
            sqs.advance(10)
            sqs.delete_queue()
            exporter.wait_until_told("does not exist: create it")
            assert not exporter.ready()[0]
            sqs.create_queue()
            sqs.send([EVENT] * 2)
            exporter.wait_for(lambda scrape: scrape.counted == 5)
            exporter.wait_until_told("Ready.")
            exporter.wait_until_logged("queue was deleted and made again: what it held is lost", queue="events")


def a_prefix_takes_no_dead_letter_queue(ledger: Path) -> None:
    """Neither of a source that it finds, nor of one outside it, nor where nobody may ask; it says so."""
    with FakeSqs(create=False) as sqs:
        sqs.behave(page_size=2)
        others = [f"shop-{number}" for number in range(5)]
        for name in ("shop-orders-dlq", "shop-outside-dlq", "shop-unknown", *others):
            sqs.create_queue(name)
        sqs.create_queue("shop-orders", sqs.gives_up_to("shop-orders-dlq"))
        sqs.create_queue("legacy", sqs.gives_up_to("shop-outside-dlq"))
        sqs.fault("error", "ListDeadLetterSourceQueues", queue_name="shop-unknown", code="AccessDeniedException")
        taken = ["shop-orders", *others]
        for name in (*taken, "shop-orders-dlq", "shop-outside-dlq", "shop-unknown", "legacy"):
            sqs.send([EVENT], queue_name=name)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, queue="shop-*") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == len(taken))
            exporter.wait_until_logged('it is the dead-letter queue of "shop-orders"', queue="shop-orders-dlq")
            exporter.wait_until_logged('it is the dead-letter queue of "legacy"', queue="shop-outside-dlq")
            exporter.wait_until_logged("grant sqs:ListDeadLetterSourceQueues", queue="shop-unknown")
            assert counts(exporter) == dict.fromkeys(taken, 1)
            sentence = exporter.wait_until_told("Ready, but ")
            assert exporter.ready()[0]
            for name in ("shop-orders-dlq", "shop-outside-dlq", "shop-unknown"):
                assert f'Queue "{name}" is left out' in sentence
                assert sqs.account(name).available == 1
            assert exporter.terminate() == 0
        # Whoever wants a dead-letter queue counted names it.
        flags = (*SHORT_WAIT, "--until-empty")
        queue = "shop-*,shop-orders-dlq"
        with ExporterProcess(sqs.environment, ledger, *flags, queue=queue) as exporter:
            assert exporter.wait() == 0, exporter.last_lines
            assert sqs.account("shop-orders-dlq").deleted == 1
            assert sqs.account("shop-outside-dlq").available == 1


def a_prefix_without_queues_is_waited_for(ledger: Path) -> None:
    """Say why it is not ready, or what to grant where nobody may list them, and count a named queue meanwhile."""
    with FakeSqs(create=False) as sqs, ExporterProcess(sqs.environment, ledger, queue="shop-*") as exporter:
        exporter.wait_until_told('shop-*: No queue is named "shop-*" in region us-east-1')
        assert not exporter.ready()[0]
        exporter.terminate()
        sqs.create_queue("events")
        sqs.send([EVENT], queue_name="events")
        sqs.fault("error", "ListQueues", code="AccessDeniedException")
        exporter.queue = "shop-*,events"
        exporter.start()
        exporter.wait_for(lambda scrape: scrape.counted == 1)
        sentence = exporter.wait_until_told("grant sqs:ListQueues")
        assert sentence.startswith("Ready, but shop-*: "), sentence
        assert exporter.ready()[0]


def one_name_in_two_regions_is_refused(ledger: Path) -> None:
    """Series and ledger know queues by name: exit code 2, and a sentence that shows both."""
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
    for other in ("events", url.replace("eu-west-1", "eu-west-2"), url.replace("123456789012", "999999999999")):
        with FakeSqs() as sqs:
            exporter = ExporterProcess(sqs.environment, ledger, queue=f"{url},{other}", start=False)
            exporter.launch()
            assert exporter.wait() == 2
            assert f"names \"events\" twice, as '{url}' and as '{other}'" in exporter.stderr[-1], exporter.last_lines
            assert not sqs.account().calls


def each_line_of_the_summary_names_its_queue(ledger: Path) -> None:
    """Where several queues are asked for, or a prefix: one more key, before the prototype's three."""
    with FakeSqs() as sqs:
        sqs.create_queue("shop-a")
        sqs.send([EVENT] * 2)
        sqs.send([EVENT], queue_name="shop-a")
        with ExporterProcess(sqs.environment, ledger, "--until-empty", queue="events,shop-a") as exporter:
            assert exporter.wait() == 0
        lines = sorted(exporter.stdout)
        assert lines == [
            '{"queue": "events", "type": "purchase", "count": 2, "sum": 25.1}',
            '{"queue": "shop-a", "type": "purchase", "count": 1, "sum": 12.55}',
        ]


def until_empty_ends_with_1_when_nothing_works(ledger: Path) -> None:
    """Exit code 1, and a sentence that says for how long, and what does not work."""
    with FakeSqs() as sqs:
        sqs.fault("error", RECEIVES, code="AccessDeniedException")
        flags = ("--until-empty", "--until-empty-timeout", "2s")
        with ExporterProcess(sqs.environment, ledger, *flags, start=False) as exporter:
            exporter.launch()
            assert exporter.wait() == 1
            assert "nothing has worked for --until-empty-timeout (2 s): receives fail" in exporter.stderr[-1]
            sqs.clear()
            sqs.create_queue("good")
            sqs.send([EVENT], queue_name="good")
            exporter.queue = "good,missing"
            exporter.launch()
            assert exporter.wait() == 1
            assert 'missing: Queue "missing"' in exporter.stderr[-1], exporter.last_lines
            assert sqs.account("good").deleted == 1
            sqs.fault("error", "ListQueues", code="AccessDeniedException")
            exporter.queue = "good,shop-*"
            exporter.launch()
            assert exporter.wait() == 1
            assert "grant sqs:ListQueues" in exporter.stderr[-1], exporter.last_lines


def the_quota_of_messages_in_flight_is_told(ledger: Path) -> None:
    """Say so, as a long poll gets no error there but empty answers, and go on when there are messages again."""
    with FakeSqs(attributes={"VisibilityTimeout": "3600"}) as sqs:
        sqs.load(QUOTA_IN_FLIGHT + 50, seed=6)
        sqs.hand_out(QUOTA_IN_FLIGHT)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
            sentence = exporter.wait_until_told("SQS hands out no more messages")
            assert f"about {QUOTA_IN_FLIGHT} are in flight" in sentence
            assert not exporter.ready()[0]
            assert exporter.scrape().received == 0
            sqs.behave(in_flight_limit=2 * QUOTA_IN_FLIGHT)
            exporter.wait_for(lambda scrape: scrape.received == 50)
            exporter.wait_until_told("Ready.")


def an_empty_queue_is_ready_at_once(ledger: Path) -> None:
    """Its first long poll is a short one: otherwise nobody would know for 20 s."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger) as exporter:
        exporter.wait_until_told("Ready.", READY_SECONDS)


def idle_queues_cost_their_long_polls_and_little_else(ledger: Path) -> None:
    """Ask each of 100 queues every 20 s, look at it once a minute, take little CPU, and count every request."""
    with FakeSqs(create=False) as sqs:
        names = [f"idle-{number}" for number in range(IDLE_QUEUES)]
        for name in names:
            sqs.create_queue(name)
        with ExporterProcess(sqs.environment, ledger, queue="idle-*") as exporter:
            exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ready") == IDLE_QUEUES)
            sqs.wait_until(lambda account: account.waiting_receives == IDLE_QUEUES)
            before, started, cpu_before = sqs.account().calls, time.monotonic(), cpu_seconds(exporter.pid)
            sqs.wait_until(lambda account: account.calls[RECEIVES] == before[RECEIVES] + 2 * IDLE_QUEUES, 120)
            exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_receives_in_flight") == IDLE_QUEUES)
            seconds = time.monotonic() - started
            made = {name: count - before.get(name, 0) for name, count in sqs.account().calls.items()}
            assert (cpu_seconds(exporter.pid) - cpu_before) / seconds < IDLE_CPU
            assert seconds > 30, f"two long polls of 20 s each took {seconds} s"
            assert made.pop(ATTRIBUTES) <= IDLE_QUEUES * (1 + seconds // LIST_SECONDS)
            assert made.pop("ListQueues", 0) <= 1 + seconds // LIST_SECONDS
            made.pop(RECEIVES)
            assert not any(made.values()), made
            # A long poll is counted when it is answered.
            calls = sqs.account().calls
            answered = {**calls, RECEIVES: calls[RECEIVES] - IDLE_QUEUES}
            scrape = exporter.scrape()
            assert requests(scrape.samples) == answered
            assert scrape.total("sqs_exporter_requests_total", queue="idle-7", operation="receive") >= 3


def too_few_descriptors_for_the_queues_of_a_prefix_are_told(ledger: Path) -> None:
    """Beside "Ready", and in the log once: how many files it may have open, how many they need; and no more later."""
    with FakeSqs(create=False) as sqs:
        for number in range(MANY_QUEUES):
            sqs.create_queue(f"shop-{number}")
        enough_for_one = ["prlimit", f"--nofile={DESCRIPTORS}:", "--"]
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, queue="shop-*", through=enough_for_one) as exporter:
            said = (
                f"this process may have {DESCRIPTORS} files open, and {MANY_QUEUES} queues with a receive each need "
                f"{MANY_QUEUES_DESCRIPTORS}: raise the limit (ulimit -n {MANY_QUEUES_DESCRIPTORS})"
            )
            assert exporter.wait_until_told(f"Ready, but {said}")
            assert exporter.ready()[0]
            _, hard = resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (MANY_QUEUES_DESCRIPTORS, hard))
            assert exporter.wait_until_told("Ready.") == "Ready.\n"
            assert sum("files open" in line["msg"] for line in exporter.log) == 1


def requests(samples: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> dict[str, float]:
    """Return how many requests the exporter says it made, by the name that SQS has for the operation."""
    made: dict[str, float] = {}
    for (name, has), value in samples.items():
        if name == "sqs_exporter_requests_total" and value:
            operation = dict(has)["operation"]
            operation = {"receive": RECEIVES}.get(operation, operation.title().replace("_", ""))
            made[operation] = made.get(operation, 0) + value
    return made


CASES = (
    queues_of_a_prefix_come_and_go,
    idle_queues_cost_their_long_polls_and_little_else,
    a_prefix_takes_no_dead_letter_queue,
    a_prefix_without_queues_is_waited_for,
    a_named_queue_that_is_deleted_and_made_again_is_said_to_be,
    the_quota_of_messages_in_flight_is_told,
    one_name_in_two_regions_is_refused,
    each_line_of_the_summary_names_its_queue,
    until_empty_ends_with_1_when_nothing_works,
    an_empty_queue_is_ready_at_once,
    too_few_descriptors_for_the_queues_of_a_prefix_are_told,
)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_queues_come_and_go(case: Case, outcome: Callable[[Case], None]) -> None:
    """See the case's own sentence."""
    outcome(case)
