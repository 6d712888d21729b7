"""The fake SQS does as SQS does, and its account is true: seen through boto3 and through plain HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from certificates import Authority
from fake_sqs import FakeSqs, FakeSqsError
from fake_sqs_clients import EVENT, client_of, delete, post, receive

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sqs() -> Iterator[FakeSqs]:
    """Start a server with an empty queue."""
    with FakeSqs(seed=7) as server:
        yield server


def test_a_message_is_sent_received_and_deleted_as_sqs_does_it(sqs: FakeSqs) -> None:
    """Body, MD5, id, attributes and trace header arrive as sent, and a delete ends it."""
    client = client_of(sqs)
    sent = client.send_message(
        QueueUrl=sqs.queue_url,
        MessageBody='caf\u00e9 \U0001f600 "quoted"',
        MessageAttributes={"traceparent": {"DataType": "String", "StringValue": "00-1-2-01"}},
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}},
    )
    (message,) = receive(sqs, client, MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"])
    assert message["MessageId"] == sent["MessageId"]
    assert message["Body"] == 'caf\u00e9 \U0001f600 "quoted"'
    assert message["MD5OfBody"] == hashlib.md5(message["Body"].encode(), usedforsecurity=False).hexdigest()
    assert message["MessageAttributes"]["traceparent"]["StringValue"] == "00-1-2-01"
    assert message["Attributes"]["AWSTraceHeader"] == "Root=1-2-3"
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert abs(int(message["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < 5
    assert delete(sqs, client, [message]) == (1, 0)
    assert sqs.account().remaining == 0


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


def test_the_queue_is_found_described_and_missed(sqs: FakeSqs) -> None:
    """GetQueueUrl, GetQueueAttributes and CreateQueue answer; an unknown queue has the error that boto3 names."""
    client = client_of(sqs)
    assert client.get_queue_url(QueueName="events")["QueueUrl"] == sqs.queue_url
    client.create_queue(QueueName="dead")
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 3})
    sqs.create_queue(attributes={"VisibilityTimeout": "45", "RedrivePolicy": policy})
    attributes = client.get_queue_attributes(QueueUrl=sqs.queue_url, AttributeNames=["All"])["Attributes"]
    assert attributes["QueueArn"] == sqs.queue_arn
    assert attributes["VisibilityTimeout"] == "45"
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 3
    with pytest.raises(client.exceptions.QueueDoesNotExist) as refused:
        client.get_queue_url(QueueName="nowhere")
    assert refused.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


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


def test_a_long_poll_waits_for_a_message_and_gives_up_after_its_wait(sqs: FakeSqs) -> None:
    """A message that comes ends the wait at once; without one the answer is empty when the wait is over."""
    started = time.monotonic()
    assert post(sqs, "ReceiveMessage", WaitTimeSeconds=1) == (200, b"{}")
    assert 0.9 < time.monotonic() - started < 1.9
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, sqs, "ReceiveMessage", timeout_seconds=10, WaitTimeSeconds=20)
        sqs.wait_until(lambda account: account.waiting_receives == 1)
        sqs.send([EVENT])
        status, body = waiting.result(timeout=5)
    assert (status, len(json.loads(body)["Messages"])) == (200, 1)


def test_a_message_comes_back_after_its_visibility_timeout_with_a_new_handle(sqs: FakeSqs) -> None:
    """Hidden while in flight, back once the server's clock says so, the same id, another handle, counted twice."""
    client = client_of(sqs)
    sqs.send([EVENT])
    (first,) = receive(sqs, client)
    assert receive(sqs, client) == []
    sqs.advance(29)
    assert receive(sqs, client) == []
    sqs.advance(1.1)
    (second,) = receive(sqs, client)
    assert first["MessageId"] == second["MessageId"]
    assert first["ReceiptHandle"] != second["ReceiptHandle"]
    assert sqs.messages()[0].times_handed_out == 2


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


def test_a_message_received_too_often_goes_to_the_dead_letter_queue(sqs: FakeSqs) -> None:
    """After maxReceiveCount deliveries it is in the other queue, under the same id."""
    client = client_of(sqs)
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2})
    sqs.create_queue(attributes={"RedrivePolicy": policy})
    (message_id,) = sqs.send([EVENT])
    for _ in range(2):
        assert len(receive(sqs, client)) == 1
        sqs.advance(31)
    assert receive(sqs, client) == []
    dead = client.receive_message(QueueUrl=f"{sqs.endpoint_url}/123456789012/dead")["Messages"]
    assert [message["MessageId"] for message in dead] == [message_id]
    assert sqs.account().dead_lettered == 1


def test_messages_expire_with_the_retention_and_wait_for_their_delay(sqs: FakeSqs) -> None:
    """What is older than the retention is gone; what is delayed comes when its time has come."""
    client = client_of(sqs)
    sqs.create_queue(attributes={"MessageRetentionPeriod": "60"})
    sqs.send([EVENT], age_seconds=30)
    sqs.send([EVENT], delay_seconds=40)
    sqs.advance(41)
    (message,) = receive(sqs, client)
    assert sqs.account().expired == 1
    assert sqs.messages()[1].message_id == message["MessageId"]


def test_ids_and_bodies_can_be_anything(sqs: FakeSqs) -> None:
    """An id that is no UUID, a lone surrogate, and bytes that no JSON library would write arrive as given."""
    sqs.send(["\ud800"], ids=['not a "uuid"'])
    sqs.send(raw=[b'"\xff\x00"'])
    _, body = post(sqs, "ReceiveMessage", MaxNumberOfMessages=10)
    assert b'"MessageId":"not a \\"uuid\\""' in body
    assert b'"Body":"\\ud800"' in body
    assert b'"Body":"\xff\x00"' in body


def test_requests_in_pieces_early_and_with_expect_are_understood(sqs: FakeSqs) -> None:
    """Two requests at once, then one byte at a time, then a body that waits for 100 Continue."""
    body = b'{"QueueName": "events"}'
    head = b"POST / HTTP/1.1\r\nHost: x\r\nx-amz-TARGET: AmazonSQS.GetQueueUrl\r\ncontent-length: %d\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", sqs.port), timeout=2) as connection:
        connection.sendall((head + b"\r\n" + body) * 2)
        for byte in head + b"\r\n" + body:
            connection.sendall(bytes([byte]))
        received = b""
        while received.count(sqs.queue_url.encode()) < 3:
            received += connection.recv(65536)
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert sqs.queue_url.encode() in connection.recv(65536)


def test_it_speaks_tls(tmp_path: Path) -> None:
    """boto3 accepts it with the certificate's authority, large answers included."""
    authority = Authority(tmp_path)
    signed = authority.sign("sqs")
    with FakeSqs(tls=(signed.certificate, signed.key)) as sqs:
        client = client_of(sqs, verify=str(authority.certificate))
        sqs.send(["x" * 1_000_000] * 10)
        messages = receive(sqs, client)
        assert [len(message["Body"]) for message in messages] == [1_000_000] * 10
        assert delete(sqs, client, messages) == (10, 0)
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(socket.create_connection(("127.0.0.1", sqs.port)), server_hostname="127.0.0.1")


def test_a_load_is_exactly_what_its_account_says(sqs: FakeSqs) -> None:
    """Everything handed out adds up to the account, to the last digit."""
    sqs.load(1_000, seed=5, invalid_fraction=0.2)
    account = sqs.account()
    assert account.counted + account.rejected == 1_000
    assert set(account.types) == {"pageview", "added-to-basket", "purchase"}
    client = client_of(sqs)
    counts: Counter[str] = Counter()
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    while messages := receive(sqs, client):
        for message in messages:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                event = json.loads(message["Body"], parse_float=Decimal, parse_int=Decimal)
                if isinstance(event["type"], str) and isinstance(event["value"], Decimal):
                    counts[event["type"]] += 1
                    sums[event["type"]] += event["value"]
        delete(sqs, client, messages)
    assert counts == {name: totals.count for name, totals in account.types.items()}
    assert sums == {name: Decimal(totals.value_nano) / 10**9 for name, totals in account.types.items()}
    assert (sqs.account().deleted, sqs.account().remaining) == (1_000, 0)


def test_the_same_seed_makes_the_same_messages_again(sqs: FakeSqs) -> None:
    """Ids, types, values and what is wrong with the rest follow from the seeds; many types come in their order."""
    sqs.load(100, seed=5, invalid_fraction=0.2)
    sqs.load(50, types=20)
    with FakeSqs(seed=7) as other:
        other.load(100, seed=5, invalid_fraction=0.2)
        other.load(50, types=20)
        account = other.account()
        assert (account.types, account.invalid) == (sqs.account().types, sqs.account().invalid)
        assert [m.message_id for m in other.messages()] == [m.message_id for m in sqs.messages()]
    assert account.types["type-0"].count == 3
    assert account.types["type-19"].count == 2


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


def test_a_million_messages_are_loaded_in_seconds_and_little_memory(sqs: FakeSqs) -> None:
    """Bulk loads need no HTTP and less than 200 bytes a message."""
    started = time.monotonic()
    sqs.load(1_000_000)
    assert time.monotonic() - started < 10
    resident = next(
        line for line in Path(f"/proc/{sqs.pid}/status").read_text(encoding="ascii").splitlines() if "VmRSS" in line
    )
    assert int(resident.split()[1]) * 1024 < 200_000_000
    assert sqs.account().counted == 1_000_000


def policy(sqs: FakeSqs, dead_letter_queue: str, times: int = 2) -> dict[str, str]:
    """Return the attributes of a queue that gives up messages after so many receives."""
    arn = f"{sqs.queue_arn.rpartition(':')[0]}:{dead_letter_queue}"
    return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": times})}


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


def test_a_dead_letter_queue_names_its_sources(sqs: FakeSqs) -> None:
    """All queues whose redrive policy names it; none any more when the policies are gone."""
    dead = sqs.create_queue("dead")
    for name in ("one", "two"):
        sqs.create_queue(name, policy(sqs, "dead"))
    client = client_of(sqs)
    sqs.behave(page_size=1)
    first = client.list_dead_letter_source_queues(QueueUrl=dead, MaxResults=10)
    second = client.list_dead_letter_source_queues(QueueUrl=dead, MaxResults=10, NextToken=first["NextToken"])
    assert [url.rpartition("/")[2] for url in first["queueUrls"] + second["queueUrls"]] == ["one", "two"]
    for name in ("one", "two"):
        sqs.create_queue(name, {"RedrivePolicy": ""})
    assert client.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == []


def test_a_batch_makes_messages_visible_again(sqs: FakeSqs) -> None:
    """Those in flight at once; a handle that is none fails alone."""
    sqs.send([EVENT] * 2)
    client = client_of(sqs)
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        for number, message in enumerate(receive(sqs, client))
    ]
    answer = client.change_message_visibility_batch(
        QueueUrl=sqs.queue_url,
        Entries=[*entries, {"Id": "x", "ReceiptHandle": "none", "VisibilityTimeout": 0}],  # type: ignore[list-item]
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "1"]
    assert [entry["Code"] for entry in answer["Failed"]] == ["ReceiptHandleIsInvalid"]
    assert len(receive(sqs, client)) == 2


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


def test_message_attributes_come_with_their_md5(sqs: FakeSqs) -> None:
    """Of those that are returned, by AWS's algorithm: the digest is one that another implementation published."""
    sqs.send(
        [EVENT],
        message_attributes={
            "attribName1": {"DataType": "String", "StringValue": "attribValue 1"},
            "more": {"DataType": "Number", "StringValue": "1"},
        },
    )
    client = client_of(sqs)
    (message,) = receive(sqs, client, MessageAttributeNames=["attribName1"])
    assert message["MD5OfMessageAttributes"] == "19e27d4e946b072f3f58da80d94fd778"


def test_each_queue_has_an_account_and_a_time_of_creation(sqs: FakeSqs) -> None:
    """A queue that is deleted and made again is empty, has the same ARN and another time of creation."""
    sqs.create_queue("other")
    sqs.send([EVENT] * 3, queue_name="other")
    sqs.send([EVENT])
    client = client_of(sqs)
    assert delete(sqs, client, receive(sqs, client)) == (1, 0)
    assert (sqs.account("events").sent, sqs.account("events").deleted, sqs.account("events").remaining) == (1, 1, 0)
    assert (sqs.account("other").sent, sqs.account("other").types["pageview"].count) == (3, 3)
    before = client.get_queue_attributes(QueueUrl=sqs.queue_url, AttributeNames=["All"])["Attributes"]
    sqs.advance(10)
    sqs.delete_queue()
    sqs.create_queue()
    after = client.get_queue_attributes(QueueUrl=sqs.queue_url, AttributeNames=["All"])["Attributes"]
    assert after["QueueArn"] == before["QueueArn"]
    assert int(after["CreatedTimestamp"]) >= int(before["CreatedTimestamp"]) + 10


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


def test_it_can_be_started_by_hand() -> None:
    """`python tests/fake_sqs` says where its queue is, serves it, and ends on SIGINT."""
    folder = Path(__file__).parents[1] / "fake_sqs"
    command = [sys.executable, str(folder), "--port", "0", "--load", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        assert said[0] == "queue"
        port = int(said[1].split(":")[2].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.closing(connection):
            connection.request(
                "POST",
                "/",
                json.dumps({"QueueUrl": said[1], "MaxNumberOfMessages": 10}),
                {"X-Amz-Target": "AmazonSQS.ReceiveMessage"},
            )
            assert len(json.loads(connection.getresponse().read())["Messages"]) == 10
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
