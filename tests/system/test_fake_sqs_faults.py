"""The fake SQS is as unkind as it is asked to be: seen through boto3 and through plain HTTP."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from fake_sqs import FakeSqs
from fake_sqs_clients import EVENT, client_of, delete, post, receive

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sqs() -> Iterator[FakeSqs]:
    """Start a server with an empty queue."""
    with FakeSqs(seed=7) as server:
        yield server


def test_duplicates_come_inside_a_batch_and_across_batches(sqs: FakeSqs) -> None:
    """Copies have the same id; inside a batch only the later handle deletes, across batches only the newer."""
    client = client_of(sqs)
    sqs.behave(duplicate_in_batch=1.0)
    sqs.send([EVENT])
    first, second = receive(sqs, client)
    assert first["MessageId"] == second["MessageId"]
    delete(sqs, client, [first])
    assert sqs.account().deleted == 0
    delete(sqs, client, [second])
    assert sqs.account().deleted == 1
    sqs.behave(duplicate_in_batch=0.0, duplicate_across_batches=1.0)
    sqs.send([EVENT])
    (first,) = receive(sqs, client)
    sqs.behave(duplicate_across_batches=0.0)
    (second,) = receive(sqs, client)
    assert first["MessageId"] == second["MessageId"]
    assert sqs.account().duplicates == 2
    assert delete(sqs, client, [first]) == (1, 0)
    assert sqs.account().deleted == 1
    delete(sqs, client, [second])
    assert sqs.account().remaining == 0


def test_a_message_can_come_back_after_a_confirmed_delete(sqs: FakeSqs) -> None:
    """A server that held a copy was down: the message is back, as late as the test says."""
    client = client_of(sqs)
    sqs.behave(return_after_delete=1.0, return_after_seconds=60)
    sqs.send([EVENT])
    delete(sqs, client, receive(sqs, client))
    assert sqs.account().deleted == 1
    assert receive(sqs, client) == []
    sqs.advance(61)
    assert len(receive(sqs, client)) == 1
    assert sqs.account().returned_after_delete == 1


def test_receives_can_hide_messages(sqs: FakeSqs) -> None:
    """A short poll that hides finds nothing; a long poll finds some."""
    client = client_of(sqs)
    sqs.load(1000)
    sqs.behave(hide=1.0)
    assert receive(sqs, client) == []
    found = [len(receive(sqs, client, WaitTimeSeconds=1)) for _ in range(5)]
    assert all(found)
    assert min(found) < 10


def test_more_in_flight_than_the_limit_is_refused(sqs: FakeSqs) -> None:
    """OverLimit, until something is deleted."""
    client = client_of(sqs)
    sqs.behave(in_flight_limit=10)
    sqs.load(30)
    held = receive(sqs, client)
    with pytest.raises(client.exceptions.OverLimit):
        receive(sqs, client)
    delete(sqs, client, held)
    assert len(receive(sqs, client)) == 10


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("html", {}, (200, b"<html>")),
        ("empty_object", {}, (200, b"{}")),
        ("empty_body", {}, (200, b"")),
        ("redirect", {}, (302, b"")),
        ("truncated", {}, (200, b'{"Messages":[{"MessageId":"')),
        (
            "error",
            {"code": "RequestThrottled", "status": 400},
            (400, b'{"__type": "com.amazonaws.sqs#RequestThrottled"'),
        ),
        ("error", {"code": "ThrottlingException", "status": 503}, (503, b'{"__type": "com.amazon.coral.service#Thr')),
        ("answer", {"body": "no", "status": 418}, (418, b"no")),
    ],
)
def test_answers_can_lie_or_refuse(
    sqs: FakeSqs, kind: str, options: dict[str, Any], expected: tuple[int, bytes]
) -> None:
    """Each kind of wrong answer comes once, as asked for, and then the truth again."""
    sqs.send([EVENT])
    sqs.fault(kind, "ReceiveMessage", times=1, **options)
    status, body = post(sqs, "ReceiveMessage", VisibilityTimeout=0)
    assert (status, body[: len(expected[1])]) == expected
    if kind == "truncated":
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
    assert b"Messages" in post(sqs, "ReceiveMessage")[1]
    assert sqs.account().faults == {kind: 1}


def test_messages_of_an_answer_can_lie(sqs: FakeSqs) -> None:
    """A wrong MD5, a missing field and surprising fields, for the first message or for all; the rest stays true."""
    client = client_of(sqs)
    sqs.load(30)
    sqs.fault("wrong_md5", times=1, only_first=True)
    messages = receive(sqs, client)
    right = [hashlib.md5(m["Body"].encode(), usedforsecurity=False).hexdigest() == m["MD5OfBody"] for m in messages]
    assert right == [False] + [True] * 9
    sqs.fault("missing_field", times=1, field="ReceiptHandle")
    assert not any("ReceiptHandle" in message for message in receive(sqs, client))
    sqs.fault("extra_fields", times=1)
    answer = json.loads(post(sqs, "ReceiveMessage", MaxNumberOfMessages=10)[1])
    assert "Surprise" in answer
    assert all("Surprise" in message and "Body" in message for message in answer["Messages"])


def test_lies_wait_for_an_answer_that_brings_messages(sqs: FakeSqs) -> None:
    """An empty receive does not use up a fault of the messages."""
    sqs.fault("wrong_md5", times=1)
    assert post(sqs, "ReceiveMessage") == (200, b"{}")
    sqs.send([EVENT])
    assert b"0" * 32 in post(sqs, "ReceiveMessage")[1]


@pytest.mark.parametrize("kind", ["reset", "close", "half_closed", "black_hole"])
def test_connections_can_fail(sqs: FakeSqs, kind: str) -> None:
    """RST, FIN, half an answer, silence: each ends in an error of its own at the client."""
    sqs.send([EVENT])
    sqs.fault(kind, "ReceiveMessage", times=1)
    expected = {
        "reset": ConnectionResetError,
        "close": http.client.RemoteDisconnected,
        "half_closed": http.client.IncompleteRead,
        "black_hole": TimeoutError,
    }[kind]
    with pytest.raises(expected):
        post(sqs, "ReceiveMessage", timeout_seconds=0.3)
    assert post(sqs, "GetQueueUrl", QueueName="events")[0] == 200


def test_an_answer_can_be_late_or_come_byte_by_byte(sqs: FakeSqs) -> None:
    """A delay holds it up whole; a drip takes as long as its bytes."""
    sqs.behave(latency_seconds=0.2)
    started = time.monotonic()
    assert post(sqs, "GetQueueUrl", QueueName="events")[0] == 200
    assert time.monotonic() - started >= 0.2
    sqs.behave(latency_seconds=0.0)
    sqs.fault("delay", seconds=0.2, times=1)
    started = time.monotonic()
    assert post(sqs, "ReceiveMessage") == (200, b"{}")
    assert time.monotonic() - started >= 0.2
    sqs.fault("drip", bytes_per_second=1000)
    started = time.monotonic()
    assert post(sqs, "GetQueueUrl", QueueName="events")[0] == 200
    assert time.monotonic() - started >= 0.2


def test_an_answer_can_be_lost_after_the_server_acted(sqs: FakeSqs) -> None:
    """The message is in flight although nobody has it; the delete happened although the answer says 500."""
    client = client_of(sqs)
    sqs.send([EVENT])
    sqs.fault("reset", "ReceiveMessage", times=1, acted=True)
    with pytest.raises(ConnectionResetError):
        post(sqs, "ReceiveMessage")
    assert (sqs.account().in_flight, sqs.account().handed_out) == (1, 1)
    sqs.advance(31)
    messages = receive(sqs, client)
    sqs.fault("error", "DeleteMessageBatch", times=1, acted=True, code="InternalFailure")
    with pytest.raises(ClientError):
        delete(sqs, client, messages)
    assert sqs.account().deleted == 1


def test_deletes_can_fail_in_part_or_say_nothing(sqs: FakeSqs) -> None:
    """The entries that are said to have failed are not deleted; an empty object may hide either."""
    client = client_of(sqs)
    sqs.load(20)
    messages = receive(sqs, client)
    sqs.fault("failed_entries", times=1, entries=3)
    assert delete(sqs, client, messages) == (7, 3)
    assert sqs.account().deleted == 7
    sqs.fault("empty_object", "DeleteMessageBatch", times=1)
    assert delete(sqs, client, messages[:3]) == (0, 0)
    assert sqs.account().deleted == 7
    sqs.fault("empty_object", "DeleteMessageBatch", times=1, acted=True)
    assert delete(sqs, client, messages[:3]) == (0, 0)
    assert sqs.account().deleted == 10


def test_faults_befall_a_fraction_of_calls_of_one_operation_until_cleared(sqs: FakeSqs) -> None:
    """Half of the receives fail, by the seed; other operations don't; after `clear` none does."""
    number = sqs.fault("error", "ReceiveMessage", fraction=0.5, code="AccessDeniedException")
    statuses = [post(sqs, "ReceiveMessage")[0] for _ in range(40)]
    assert 8 < statuses.count(403) < 32
    assert sqs.account().faults == {"error": statuses.count(403)}
    assert post(sqs, "GetQueueUrl", QueueName="events")[0] == 200
    sqs.clear(number)
    assert {post(sqs, "ReceiveMessage")[0] for _ in range(10)} == {200}


def test_a_skewed_clock_refuses_what_is_signed_too_far_from_it(sqs: FakeSqs) -> None:
    """The refusal carries the server's time, and what is signed at that time is accepted."""
    sqs.fault("clock_skew", seconds=3600)
    with pytest.raises(ClientError) as refused:
        client_of(sqs).get_queue_url(QueueName="events")
    assert refused.value.response["Error"]["Code"] == "InvalidSignatureException"
    date = parsedate_to_datetime(refused.value.response["ResponseMetadata"]["HTTPHeaders"]["date"])
    assert 3500 < date.timestamp() - time.time() < 3700
    status, _ = post(sqs, "GetQueueUrl", signed_at=f"{date:%Y%m%dT%H%M%SZ}", QueueName="events")
    assert status == 200


def test_the_network_can_be_cut_and_joined(sqs: FakeSqs) -> None:
    """Refused or silent while it is cut, the same port afterwards, and nothing of the queue is lost."""
    sqs.send([EVENT])
    sqs.partition()
    with pytest.raises(ConnectionRefusedError):
        post(sqs, "ReceiveMessage")
    sqs.heal()
    sqs.partition(silent=True)
    with pytest.raises(TimeoutError):
        post(sqs, "ReceiveMessage", timeout_seconds=0.3)
    sqs.heal()
    assert b"Messages" in post(sqs, "ReceiveMessage")[1]


@pytest.mark.parametrize(("behaves", "in_flight"), [(False, 0), (True, 1)])
def test_a_poll_whose_client_died_may_still_be_given_messages(sqs: FakeSqs, *, behaves: bool, in_flight: int) -> None:
    """By default it is forgotten; at its worst the server hands messages to nobody."""
    sqs.behave(dead_polls_receive=behaves)
    with pytest.raises(TimeoutError):
        post(sqs, "ReceiveMessage", timeout_seconds=0.2, WaitTimeSeconds=20)
    sqs.wait_until(lambda account: account.connections == 0)
    sqs.send([EVENT])
    assert sqs.account().in_flight == in_flight


def test_a_fault_befalls_one_queue(sqs: FakeSqs) -> None:
    """Others, and other operations of the same, go on."""
    other = sqs.create_queue("other")
    client = client_of(sqs)
    sqs.fault("error", "GetQueueAttributes", queue_name="other", code="AccessDeniedException")
    sqs.fault("error", "ListQueues", queue_name="shop-", code="AccessDeniedException")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.get_queue_attributes(QueueUrl=other)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.list_queues(QueueNamePrefix="shop-")
    client.get_queue_attributes(QueueUrl=sqs.queue_url)
    client.receive_message(QueueUrl=other)
    client.list_queues(QueueNamePrefix="other")


def test_at_the_limit_in_flight_it_may_say_nothing(sqs: FakeSqs) -> None:
    """As SQS does to long polls: messages are visible, and no receive gets one."""
    sqs.behave(in_flight_limit=1, silent_at_limit=True)
    sqs.send([EVENT] * 2)
    client = client_of(sqs)
    assert len(client.receive_message(QueueUrl=sqs.queue_url)["Messages"]) == 1
    assert receive(sqs, client) == []
    assert sqs.account().available == 1
