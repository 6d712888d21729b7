"""The fake SQS is as strict and as unkind as it says where no test of the exporter would notice that it is not."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from fake_sqs import FakeSqs, FakeSqsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

EVENT = '{"type": "pageview", "value": 1, "occurred_at": "2020-10-06 10:02:05"}'


@pytest.fixture
def sqs() -> Iterator[FakeSqs]:
    """Start a server with an empty queue."""
    with FakeSqs(seed=7) as server:
        yield server


def client_of(sqs: FakeSqs) -> SQSClient:
    """Return a boto3 client of the server that tries once."""
    return boto3.client(
        "sqs",
        endpoint_url=sqs.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",  # noqa: S106 - an example
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def receive(sqs: FakeSqs, client: SQSClient, **arguments: Any) -> list[MessageTypeDef]:  # noqa: ANN401 - boto3's
    """Receive up to ten messages."""
    answer = client.receive_message(QueueUrl=sqs.queue_url, MaxNumberOfMessages=10, **arguments)
    return answer.get("Messages", [])


def delete(sqs: FakeSqs, client: SQSClient, messages: list[MessageTypeDef]) -> tuple[int, int]:
    """Delete messages in one batch; returns how many were said to be deleted, and to have failed."""
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)
    ]
    answer = client.delete_message_batch(QueueUrl=sqs.queue_url, Entries=entries)  # type: ignore[arg-type]
    return len(answer.get("Successful", [])), len(answer.get("Failed", []))


def receive_without_a_client(sqs: FakeSqs) -> bytes:
    """Receive up to ten messages without any client's help; returns the body of the answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sqs.port, timeout=60)) as connection:
        body = json.dumps({"QueueUrl": sqs.queue_url, "MaxNumberOfMessages": 10})
        connection.request("POST", "/", body, {"X-Amz-Target": "AmazonSQS.ReceiveMessage"})
        return connection.getresponse().read()


def test_only_the_attributes_that_were_asked_for_are_answered(sqs: FakeSqs) -> None:
    """A receive without names brings none, with a name that one."""
    client = client_of(sqs)
    sqs.send([EVENT], message_attributes={"a.b": {"DataType": "String", "StringValue": "x"}})
    (message,) = receive(sqs, client, VisibilityTimeout=0)
    assert "Attributes" not in message
    assert "MessageAttributes" not in message
    (message,) = receive(sqs, client, MessageSystemAttributeNames=["SentTimestamp"], MessageAttributeNames=["a.*"])
    assert list(message["Attributes"]) == ["SentTimestamp"]
    assert list(message["MessageAttributes"]) == ["a.b"]


def test_batches_are_checked_as_sqs_checks_them(sqs: FakeSqs) -> None:
    """No entries, eleven entries, equal ids and a made-up handle are refused; control characters are not accepted."""
    client = client_of(sqs)
    for entries, code in (
        ([], "AWS.SimpleQueueService.EmptyBatchRequest"),
        (
            [{"Id": str(i), "ReceiptHandle": "x"} for i in range(11)],
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        ),
        ([{"Id": "1", "ReceiptHandle": "x"}] * 2, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
    ):
        with pytest.raises(ClientError) as refused:
            client.delete_message_batch(QueueUrl=sqs.queue_url, Entries=entries)  # type: ignore[arg-type]
        assert refused.value.response["Error"]["Code"] == code
    answer = client.delete_message_batch(QueueUrl=sqs.queue_url, Entries=[{"Id": "1", "ReceiptHandle": "x"}])
    assert answer["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
    sent = client.send_message_batch(
        QueueUrl=sqs.queue_url,
        Entries=[{"Id": "good", "MessageBody": EVENT}, {"Id": "bad", "MessageBody": "\x01"}],
    )
    assert [entry["Id"] for entry in sent["Successful"]] == ["good"]
    assert [entry["Id"] for entry in sent["Failed"]] == ["bad"]


def test_a_stale_handle_succeeds_without_deleting(sqs: FakeSqs) -> None:
    """After the timeout, and after a newer delivery, the old handle deletes nothing and says that it did."""
    client = client_of(sqs)
    sqs.send([EVENT])
    stale = receive(sqs, client)
    sqs.advance(31)
    assert delete(sqs, client, stale) == (1, 0)
    fresh = receive(sqs, client)
    assert delete(sqs, client, stale) == (1, 0)
    assert sqs.account().stale_deletes == 2
    assert sqs.account().remaining == 1
    assert delete(sqs, client, fresh) == (1, 0)
    assert sqs.account().remaining == 0
    assert sqs.messages()[0].deleted_seconds is not None


def test_visibility_can_be_changed(sqs: FakeSqs) -> None:
    """ChangeMessageVisibility puts off the return, and with 0 brings it about."""
    client = client_of(sqs)
    sqs.send([EVENT])
    (message,) = receive(sqs, client)
    handle = message["ReceiptHandle"]
    client.change_message_visibility(QueueUrl=sqs.queue_url, ReceiptHandle=handle, VisibilityTimeout=100)
    sqs.advance(60)
    assert receive(sqs, client) == []
    client.change_message_visibility(QueueUrl=sqs.queue_url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert len(receive(sqs, client)) == 1


def test_a_fifo_queue_keeps_the_order_of_groups_and_drops_duplicates(sqs: FakeSqs) -> None:
    """A group waits while one of its messages is in flight, the other goes on; a repeated attempt gets the same."""
    url = sqs.create_queue("orders.fifo")
    client = client_of(sqs)
    for number in range(4):
        sent = [
            client.send_message(
                QueueUrl=url,
                MessageBody=f"{number}",
                MessageGroupId=f"group-{number % 2}",
                MessageDeduplicationId=f"{number}",
            )["MessageId"]
            for _ in range(2)
        ]
        assert sent[0] == sent[1]
    with pytest.raises(ClientError, match="MessageGroupId"):
        client.send_message(QueueUrl=url, MessageBody="no group")

    def received(most: int, attempt: str) -> list[str]:
        answer = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=most, ReceiveRequestAttemptId=attempt, VisibilityTimeout=30
        )
        return [message["Body"] for message in answer.get("Messages", [])]

    assert received(1, "first") == ["0"]
    assert received(10, "second") == ["1", "3"]
    assert received(10, "third") == []
    assert received(1, "first") == ["0"]
    sqs.advance(31)
    assert received(10, "fourth") == ["0", "1", "2", "3"]


def test_sent_bodies_are_classified(sqs: FakeSqs) -> None:
    """The account of a test's own bodies: what is an event, and why the rest is none."""
    sqs.send(
        [
            '{"type": "refund", "value": -2.5}',
            '{"type": "refund", "value": "7"}',
            '{"type": "refund"}',
            '{"type": "refund", "value": true}',
            '{"type": "refund", "value": NaN}',
            '{"type": "", "value": 1}',
            "[]",
            "{",
        ]
    )
    account = sqs.account()
    (refund,) = account.types.values()
    assert (refund.count, refund.value, refund.negative) == (2, 7.0, 2.5)
    assert account.invalid == {
        "missing_field": 1,
        "invalid_value": 1,
        "invalid_type": 1,
        "not_an_object": 1,
        "invalid_json": 2,
    }


def test_queues_are_listed_by_prefix_and_page(sqs: FakeSqs) -> None:
    """All pages together are the queues whose names begin so; without MaxResults there is one page."""
    names = [f"shop-{number}" for number in range(7)]
    for name in (*names, "other"):
        sqs.create_queue(name)
    client = client_of(sqs)
    urls: list[str] = []
    token: dict[str, Any] = {}
    for _ in range(3):
        page = client.list_queues(QueueNamePrefix="shop-", MaxResults=3, **token)
        urls += page["QueueUrls"]
        token = {"NextToken": page.get("NextToken")}
    assert [url.rpartition("/")[2] for url in urls] == names
    assert token == {"NextToken": None}
    assert len(client.list_queues(QueueNamePrefix="shop-")["QueueUrls"]) == 7
    assert "QueueUrls" not in client.list_queues(QueueNamePrefix="nothing")


def test_ids_and_bodies_can_be_anything(sqs: FakeSqs) -> None:
    """An id that is no UUID, a lone surrogate, and bytes that no JSON library would write arrive as given."""
    sqs.send(["\ud800"], ids=['not a "uuid"'])
    sqs.send(raw=[b'"\xff\x00"'])
    body = receive_without_a_client(sqs)
    assert b'"MessageId":"not a \\"uuid\\""' in body
    assert b'"Body":"\\ud800"' in body
    assert b'"Body":"\xff\x00"' in body


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


def test_receives_can_hide_messages(sqs: FakeSqs) -> None:
    """A short poll that hides finds nothing; a long poll finds some."""
    client = client_of(sqs)
    sqs.load(1000)
    sqs.behave(hide=1.0)
    assert receive(sqs, client) == []
    found = [len(receive(sqs, client, WaitTimeSeconds=1)) for _ in range(5)]
    assert all(found)
    assert min(found) < 10


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
    answer = json.loads(receive_without_a_client(sqs))
    assert "Surprise" in answer
    assert all("Surprise" in message and "Body" in message for message in answer["Messages"])


def test_an_answer_can_be_lost_after_the_server_acted(sqs: FakeSqs) -> None:
    """The message is in flight although nobody has it; the delete happened although the answer says 500."""
    client = client_of(sqs)
    sqs.send([EVENT])
    sqs.fault("reset", "ReceiveMessage", times=1, acted=True)
    with pytest.raises(ConnectionResetError):
        receive_without_a_client(sqs)
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


def test_a_wrong_word_is_told_to_the_test(sqs: FakeSqs) -> None:
    """An unknown fault, operation or behaviour is an error that names it."""
    with pytest.raises(FakeSqsError, match="'explode' is no fault"):
        sqs.fault("explode")
    with pytest.raises(FakeSqsError, match="'Receive' is no operation"):
        sqs.fault("reset", "Receive")
    with pytest.raises(FakeSqsError, match="'kind'"):
        sqs.behave(kind=True)
    with pytest.raises(TimeoutError, match="sent=0"):
        sqs.wait_until(lambda account: account.sent > 0, timeout_seconds=0.1)
