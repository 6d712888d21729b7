"""What the tests of the fake SQS call it with: boto3, and plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from fake_sqs import FakeSqs
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

EVENT = '{"type": "pageview", "value": 1, "occurred_at": "2020-10-06 10:02:05"}'


def client_of(sqs: FakeSqs, **options: Any) -> SQSClient:  # noqa: ANN401 - boto3's
    """Return a boto3 client of the server that tries once."""
    return boto3.client(
        "sqs",
        endpoint_url=sqs.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",  # noqa: S106 - an example
        config=Config(retries={"total_max_attempts": 1}, read_timeout=2, proxies={}),
        **options,
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


def post(
    sqs: FakeSqs,
    operation: str,
    timeout_seconds: float = 2.0,
    signed_at: str = "",
    **request: Any,  # noqa: ANN401 - JSON
) -> tuple[int, bytes]:
    """Call an operation without any client's help; returns status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", sqs.port, timeout=timeout_seconds)
    with contextlib.closing(connection):
        body = json.dumps({"QueueUrl": sqs.queue_url, **request})
        headers = {"X-Amz-Target": f"AmazonSQS.{operation}", "X-Amz-Date": signed_at}
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
