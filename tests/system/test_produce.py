"""The producer's account is exactly what is in the queue."""

from __future__ import annotations

import json
import os
import queue as queues
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from exporter_process import INHERITED, ExporterProcess
from exporter_process import PROGRAM as PROGRAM_FILE
from fake_sqs import FakeSqs
from moto.server import ThreadedMotoServer
from stub_endpoint import Answer, StubSqs, refusal, stub_sqs

from exporter.errors import InvalidEvent, QueueUnavailableError
from exporter.events.event import NANO, EventMapping, EventParser
from exporter.events.event import REASONS as EVENT_REASONS
from exporter.producer.account import Account
from exporter.producer.produce import produce
from exporter.producer.sample import OLD_SECONDS, REASONS, messages
from exporter.sqs.aws import Connection, connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

AWS_SETTINGS = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-secret-key",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "no_proxy": "*",
}
PARSE = EventParser(EventMapping()).parse
PROGRAM = (
    "from exporter.producer.produce import run; run('events', rate=200.0, invalid_fraction=0.2, duplicate_fraction=0.1)"
)


class TakingSqs:
    """An SQS that keeps the bodies it takes; the test may make it answer otherwise."""

    def __init__(self, stub: StubSqs) -> None:
        self.stub = stub
        self.bodies: queues.Queue[str] = queues.Queue()
        self.queue_url = f"{stub.url}/123456789012/events"
        stub.answers["SendMessageBatch"] = self.take
        stub.answers["GetQueueUrl"] = lambda _: Answer({"QueueUrl": self.queue_url})

    def take(self, request: dict[str, Any]) -> Answer:
        """Take all."""
        return self.take_some(request, request["Entries"])

    def take_some(self, request: dict[str, Any], taken: list[dict[str, Any]]) -> Answer:
        """Take some, and refuse the rest for now."""
        for entry in taken:
            self.bodies.put(entry["MessageBody"])
        return Answer(
            {
                "Successful": [{"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"} for entry in taken],
                "Failed": [
                    {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"}
                    for entry in request["Entries"]
                    if entry not in taken
                ],
            },
        )

    def taken(self) -> list[str]:
        """Return all that it has."""
        return list(self.bodies.queue)


@pytest.fixture(autouse=True)
def _aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in AWS_SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sqs() -> Iterator[TakingSqs]:
    """Yield an SQS that takes what it is sent."""
    with stub_sqs() as stub:
        yield TakingSqs(stub)


@pytest.fixture
def connection(sqs: TakingSqs) -> Iterator[Connection]:
    """Yield a connection to it."""
    connection = connect(endpoint_url=sqs.stub.url)
    yield connection
    connection.client.close()


def account_of(bodies: Iterable[str]) -> dict[str, Any]:
    """Read the bodies as the exporter does, and account for them in the producer's form, without duplicates."""
    account = Account()
    for body in bodies:
        account.messages += 1
        try:
            event = PARSE(body.encode(), sent_at_seconds=None, now_seconds=time.time())
        except InvalidEvent as error:
            account.invalid[error.reason] += 1
        else:
            account.counts[event.type] += 1
            account.sums_nano[event.type] += event.value_nano
    return without_duplicates(account.as_json())


def without_duplicates(account: str) -> dict[str, Any]:
    """Leave out of an account what nobody can see in the queue."""
    return {key: value for key, value in json.loads(account).items() if key != "duplicates"}


def test_the_account_is_what_a_real_queue_holds() -> None:
    """Against moto: counts and sums by type and rejections by reason agree with what is received, to the last cent."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    connection = connect(endpoint_url="http://{}:{}".format(*server.get_host_and_port()))
    client = connection.client
    url = client.create_queue(QueueName="events")["QueueUrl"]
    account = produce(
        connection,
        url,
        count=203,
        seed=1,
        invalid_fraction=0.2,
        duplicate_fraction=0.1,
        stop=threading.Event(),
    )
    bodies = []
    while batch := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        bodies += [message["Body"] for message in batch]
    client.close()
    server.stop()
    assert len(bodies) == 203
    assert account_of(bodies) == without_duplicates(account.as_json())
    assert len(bodies) - len(set(bodies)) >= account.duplicates > 0


def test_the_account_is_json_of_this_form() -> None:
    """Keys and nesting are what people check the exporter against."""
    account = Account()
    sample = messages(3, invalid_fraction=0.0, duplicate_fraction=0.0)
    purchases = [message for message in (next(sample) for _ in range(100)) if message.type == "purchase"]
    for purchase in purchases:
        account.confirm(purchase)
    assert json.loads(account.as_json()) == {
        "sent": {
            "pageview": {"count": 0, "sum": 0},
            "added-to-basket": {"count": 0, "sum": 0},
            "purchase": {
                "count": len(purchases),
                "sum": sum(round(json.loads(purchase.body)["value"] * 100) for purchase in purchases) / 100,
            },
        },
        "invalid": {
            "missing_field": 0,
            "invalid_type": 0,
            "invalid_value": 0,
            "invalid_json": 0,
            "not_an_object": 0,
        },
        "duplicates": 0,
        "messages": len(purchases),
    }


def test_every_message_is_what_the_exporter_finds_it_to_be() -> None:
    """Type, exact value, or the very reason: as `exporter.events.event` reads it, for every kind of flaw."""
    now = 1_700_000_000
    sample = messages(2, invalid_fraction=0.5, duplicate_fraction=0.0, now=lambda: now)
    seen = set()
    ages = set()
    for message in (next(sample) for _ in range(2000)):
        if message.reason is not None:
            with pytest.raises(InvalidEvent) as raised:
                PARSE(message.body.encode(), sent_at_seconds=None, now_seconds=now)
            assert raised.value.reason == message.reason
            seen.add(message.reason)
            continue
        event = PARSE(message.body.encode(), sent_at_seconds=None, now_seconds=now)
        assert (event.type, event.value_nano) == (message.type, message.value_nano)
        assert event.occurred_at_seconds is not None
        ages.add(now - event.occurred_at_seconds)
    assert seen == set(REASONS) <= set(EVENT_REASONS)
    assert ages == {0, OLD_SECONDS}


def test_the_mix_is_the_shops() -> None:
    """Three page views to two baskets (1 to 5) to one purchase (0 to 100, two decimals); a seed repeats it."""
    first, again = (
        [next(sample) for _ in range(6000)]
        for sample in (messages(7, invalid_fraction=0.0, duplicate_fraction=0.0, now=lambda: 0.0) for _ in range(2))
    )
    assert first == again
    values: dict[str, list[float]] = {}
    for message in first:
        values.setdefault(message.type, []).append(message.value_nano / NANO)
    assert len(values["pageview"]) == pytest.approx(3000, rel=0.1)
    assert len(values["added-to-basket"]) == pytest.approx(2000, rel=0.1)
    assert len(values["purchase"]) == pytest.approx(1000, rel=0.1)
    assert set(values["pageview"]) == {1}
    assert set(values["added-to-basket"]) == {1, 2, 3, 4, 5}
    assert all(0 <= value <= 100 and round(value, 2) == value for value in values["purchase"])


def test_duplicates_are_messages_of_their_own(sqs: TakingSqs, connection: Connection) -> None:
    """A repeated body is sent, counted as sent, and told apart in the account."""
    account = produce(connection, sqs.queue_url, count=200, seed=5, duplicate_fraction=0.5, stop=threading.Event())
    assert account.messages == len(sqs.taken()) == 200
    assert account.duplicates == pytest.approx(100, rel=0.3)
    assert account_of(sqs.taken()) == without_duplicates(account.as_json())


def test_refused_entries_are_sent_again(sqs: TakingSqs, connection: Connection) -> None:
    """What SQS refuses, in part or as a whole, is sent until it takes it, and accounted for once."""
    calls = iter(range(1_000_000))

    def answer(request: dict[str, Any]) -> Answer:
        call = next(calls)
        if call == 0:
            return refusal("RequestThrottled", 403)
        return sqs.take_some(request, request["Entries"][::2]) if call == 1 else sqs.take(request)

    sqs.stub.answers["SendMessageBatch"] = answer
    account = produce(connection, sqs.queue_url, count=25, seed=6, stop=threading.Event())
    assert account.messages == len(sqs.taken()) == 25
    assert account.uncertain == 0
    assert account_of(sqs.taken()) == without_duplicates(account.as_json())


@pytest.mark.parametrize("lost", [Answer(None), Answer(b"<html>"), Answer({}), refusal("InternalError", 500)])
def test_a_send_without_an_answer_is_uncertain(sqs: TakingSqs, connection: Connection, lost: Answer) -> None:
    """It is not sent again, is in none of the other numbers, and the account says so."""
    calls = iter(range(1_000_000))

    def answer(request: dict[str, Any]) -> Answer:
        return lost if next(calls) == 0 else sqs.take(request)

    sqs.stub.answers["SendMessageBatch"] = answer
    account = produce(connection, sqs.queue_url, count=25, seed=6, stop=threading.Event())
    assert (account.messages, account.uncertain) == (15, 10)
    assert account_of(sqs.taken()) | {"uncertain": 10} == without_duplicates(account.as_json())


def test_what_can_not_be_mended_by_trying_again_ends_it(sqs: TakingSqs, connection: Connection) -> None:
    """The error is one sentence, and the account holds what was sent before."""
    calls = iter(range(1_000_000))

    def answer(request: dict[str, Any]) -> Answer:
        return sqs.take(request) if next(calls) == 0 else refusal("QueueDoesNotExist")

    sqs.stub.answers["SendMessageBatch"] = answer
    account = Account()
    with pytest.raises(QueueUnavailableError, match="does not exist") as raised:
        produce(connection, sqs.queue_url, seed=6, stop=threading.Event(), account=account)
    assert raised.value.reason == "queue_not_found"
    assert account.messages == 10


def test_the_rate_is_kept(sqs: TakingSqs, connection: Connection) -> None:
    """One at once, then no more than the rate allows, in batches rather than one by one."""
    began = time.monotonic()
    produce(connection, sqs.queue_url, count=51, rate=100.0, seed=6, stop=threading.Event())
    assert time.monotonic() - began >= 0.5
    assert sqs.stub.count("SendMessageBatch") < 20


def test_it_pauses_while_the_backlog_is_long(sqs: TakingSqs, connection: Connection) -> None:
    """Nothing is sent while more messages wait than allowed; it goes on when they are gone."""
    waiting = ["1000"]
    sqs.stub.answers["GetQueueAttributes"] = lambda _: Answer(
        {"Attributes": {"ApproximateNumberOfMessages": waiting[0]}}
    )
    stop = threading.Event()
    options = {"count": 10, "seed": 6, "stop": stop, "max_backlog": 100}
    producer = threading.Thread(target=produce, args=(connection, sqs.queue_url), kwargs=options)
    producer.start()
    sqs.stub.wait_for("GetQueueAttributes", 2)
    assert sqs.stub.count("SendMessageBatch") == 0
    waiting[0] = "5"
    producer.join(10)
    assert len(sqs.taken()) == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_its_account(sqs: TakingSqs, number: signal.Signals) -> None:
    """The process ends by itself, says exactly what the queue got, and prints nothing else."""
    environment = os.environ | {"AWS_ENDPOINT_URL_SQS": sqs.stub.url}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        sqs.stub.wait_for("SendMessageBatch", 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    account = json.loads(out)
    assert account["messages"] > 0
    assert account_of(sqs.taken()) == without_duplicates(out)


def test_a_fifo_queue_gets_groups_and_deduplication_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each type is a group, each message has an id of its own, so that duplicates are taken; all of it arrives."""
    with FakeSqs(create=False) as fake:
        fake.create_queue("events.fifo", attributes={"FifoQueue": "true"})
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        fifo = connect()
        url = fifo.queue_url("events.fifo")
        account = produce(fifo, url, count=60, seed=5, duplicate_fraction=0.3, stop=threading.Event())
        fifo.client.close()
        assert account.duplicates > 0
        assert account.uncertain == 0
        assert account.messages == fake.account().sent == 60


def test_duplicates_repeat_their_events_own_id(sqs: TakingSqs, connection: Connection) -> None:
    """With event ids each event has one, a duplicate its original's, and the account says what each counts once."""
    account = produce(
        connection, sqs.queue_url, count=200, seed=5, duplicate_fraction=0.5, event_ids=True, stop=threading.Event()
    )
    parser = EventParser(EventMapping(id_field="id"))
    events = [parser.parse(body.encode(), sent_at_seconds=None, now_seconds=time.time()) for body in sqs.taken()]
    once = {event.event_id: event for event in events}
    assert len(events) - len(once) == account.duplicates > 0
    said = json.loads(account.as_json())["once"]
    assert sum(one["count"] for one in said.values()) == len(once)
    assert (
        said["purchase"]["sum"] == sum(event.value_nano for event in once.values() if event.type == "purchase") / NANO
    )


@pytest.mark.parametrize(("flags", "what"), [((), "sent"), (("--events.id-field", "id"), "once")])
def test_real_duplicates_count_once_by_their_events_id(
    flags: tuple[str, ...],
    what: str,
    tmp_path: Path,
) -> None:
    """Without the flag each of them counts; with it what `produce` calls `once` is exactly what comes out."""
    with FakeSqs() as fake:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        options = ["--count", "300", "--duplicate-fraction", "0.3", "--event-ids", "--seed", "7"]
        sent = subprocess.run(
            [str(PROGRAM_FILE), "produce", "--queue", "events", *options],
            env={**inherited, **fake.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        account = json.loads(sent.stdout)
        expected = account[what]
        with ExporterProcess(fake.environment, tmp_path / "ledger.db", *flags) as exporter:
            scrape = exporter.wait_for(lambda scrape: scrape.received == 300)
            assert account["duplicates"] > 0
            counts = scrape.by("sqs_events_total", "type")
            sums = scrape.by("sqs_event_value_total", "type")
            assert {name: {"count": counts[name], "sum": sums[name]} for name in expected} == expected


@pytest.mark.parametrize(
    ("operation", "code", "sentence"),
    [
        ("SendMessageBatch", "AccessDenied", "can't be sent to: grant sqs:SendMessage on it"),
        ("GetQueueUrl", "AccessDenied", "grant sqs:GetQueueUrl"),
        ("SendMessageBatch", "KMS.AccessDeniedException", "grant kms:GenerateDataKey"),
    ],
)
def test_what_is_denied_is_named(operation: str, code: str, sentence: str) -> None:
    """The permission to grant is that of the call that was denied."""
    with FakeSqs() as fake:
        fake.fault("error", operation, code=code, status=403)
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        done = subprocess.run(
            [str(PROGRAM_FILE), "produce", "--queue", "events", "--count", "5"],
            env={**inherited, **fake.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
