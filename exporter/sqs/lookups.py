"""The boto3 calls about queues. Every function blocks, raises boto3's exceptions, and may run on any thread."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

from botocore.exceptions import ClientError

from exporter.sqs import QueueAttributes, QueueDepth
from exporter.sqs.failures import reason_of
from exporter.sqs.names import account_of, queue_name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_sqs.literals import QueueAttributeNameType

    from exporter.sqs import Target
    from exporter.sqs.aws import Connection

PAGE_SIZE = 1_000
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListQueues.html"""
MIN_VISIBILITY_SECONDS = 2
"""Handles of a shorter timeout (0 is allowed) would be over before a delete is answered: receives ask for 30 s then."""
DEFAULT_VISIBILITY_SECONDS = 30
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html"""


LookupOperation = Literal["get_queue_attributes", "get_queue_url", "list_dead_letter_source_queues", "list_queues"]


def _uncounted(_operation: LookupOperation) -> None:
    """Count nothing."""


class Look(NamedTuple):
    """What a look at a queue found."""

    target: Target
    attributes: QueueAttributes | None
    """None where they may not be read."""
    depth: QueueDepth | None


class QueueLookup:
    """Asks SQS about one queue, given by name or URL; `count` is told the name of each request's operation.

    `url` is where a name is known to be.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        count: Callable[[LookupOperation], None] = _uncounted,
        *,
        url: str | None = None,
    ) -> None:
        """Raise WrongSettingError where it is neither a name nor a URL."""
        self.connection = connection
        self.queue = queue
        self.name = queue_name_of(queue)
        self._count = count
        self._url = queue if "://" in queue else url
        self._dead_letter_urls: dict[str, str] = {}

    def look(self) -> Look:
        """Read where the queue is, its attributes and its depth. A URL that was found once is not asked for again."""
        url = self._url or self._url_of(self.name)
        target = self.connection.target(url)
        self._count("get_queue_attributes")
        try:
            # A 200 that is not SQS's leaves botocore with an empty answer: the KeyError is wanted.
            said = self.connection.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        except ClientError as error:
            if reason_of(error) != "access_denied":
                raise
            self._url = url
            return Look(target, None, None)
        found = Look(target, attributes_of(self.name, said), _depth_of(said))
        self._url = url
        return found

    def assumed_attributes(self, target: Target) -> QueueAttributes:
        """Return what can be said of a queue whose attributes may not be read."""
        partition = self.connection.client.meta.partition
        account = account_of(target.queue_url)
        arn = f"arn:{partition}:sqs:{target.region}:{account}:{self.name}"
        return QueueAttributes(self.name, arn, assumed=True)

    def visible_in(self, dead_letter_queue_arn: str) -> int | None:
        """Return how many messages are visible in the queue's dead-letter queue."""
        account, name = dead_letter_queue_arn.split(":")[-2:]
        client = self.connection.client
        url = self._dead_letter_urls.get(dead_letter_queue_arn)
        if url is None:
            self._count("get_queue_url")
            url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        self._count("get_queue_attributes")
        said = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        visible = _number(said["Attributes"], "ApproximateNumberOfMessages")
        self._dead_letter_urls = {dead_letter_queue_arn: url}
        return visible

    def sources(self) -> tuple[str, ...]:
        """Return the names of the queues whose dead-letter queue this is."""
        urls: list[str] = []
        token = ""
        while True:
            self._count("list_dead_letter_source_queues")
            # An empty answer that is not SQS's has no queueUrls: the KeyError is wanted.
            page = self.connection.client.list_dead_letter_source_queues(
                QueueUrl=self._url or self._url_of(self.name),
                MaxResults=PAGE_SIZE,
                **({"NextToken": token} if token else {}),
            )
            urls += page["queueUrls"]
            token = page.get("NextToken", "")
            if not token:
                return tuple(queue_name_of(url) for url in urls)

    def _url_of(self, name: str) -> str:
        self._count("get_queue_url")
        return self.connection.client.get_queue_url(QueueName=name)["QueueUrl"]


def list_queues(
    connection: Connection, prefix: str, count: Callable[[LookupOperation], None] = _uncounted
) -> Mapping[str, str]:
    """Return the URLs of all queues whose names begin as `prefix` (`shop-*`) says, by name."""
    begins = prefix.removesuffix("*")
    urls: list[str] = []
    token = ""
    while True:
        count("list_queues")
        page = connection.client.list_queues(
            QueueNamePrefix=begins,
            MaxResults=PAGE_SIZE,
            **({"NextToken": token} if token else {}),
        )
        urls += page.get("QueueUrls", [])
        token = page.get("NextToken", "")
        if not token:
            found = {queue_name_of(url): url for url in urls}
            return {name: url for name, url in found.items() if name.startswith(begins)}


def find(connection: Connection, queue: str) -> tuple[str, QueueAttributes]:
    """Return the URL and attributes of a queue (name or URL), asked for once. Raises QueueUnavailableError."""
    try:
        url = connection.queue_url(queue)
        said = connection.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return url, attributes_of(queue_name_of(queue), said)
    except Exception as error:
        raise connection.unavailable(queue, error) from error


def attributes_of(name: str, said: Mapping[QueueAttributeNameType, str]) -> QueueAttributes:
    """Read what GetQueueAttributes said of the queue. Raises KeyError or ValueError where that is not what SQS says."""
    visibility_timeout_seconds = _number(said, "VisibilityTimeout") or 0
    policy = json.loads(said.get("RedrivePolicy") or "{}")
    arn, dead_letter_queue_arn = said["QueueArn"], policy["deadLetterTargetArn"] if policy else None
    # boto3 lets through whatever JSON has there.
    if not isinstance(arn, str) or not isinstance(dead_letter_queue_arn, str | None):
        raise ValueError("an ARN that is no text")  # noqa: TRY004 - what SQS says is wrong, not the code
    return QueueAttributes(
        name=name,
        arn=arn,
        visibility_timeout_seconds=(
            visibility_timeout_seconds
            if visibility_timeout_seconds >= MIN_VISIBILITY_SECONDS
            else DEFAULT_VISIBILITY_SECONDS
        ),
        retention_seconds=_number(said, "MessageRetentionPeriod"),
        dead_letter_queue_arn=dead_letter_queue_arn,
        # A number, or, where the policy was written so, a string.
        max_receive_count=int(policy["maxReceiveCount"]) if policy else None,
        kms_key_id=said.get("KmsMasterKeyId") or None,
        created_seconds=_number(said, "CreatedTimestamp"),
    )


def _depth_of(said: Mapping[QueueAttributeNameType, str]) -> QueueDepth:
    return QueueDepth(
        visible=_number(said, "ApproximateNumberOfMessages"),
        in_flight=_number(said, "ApproximateNumberOfMessagesNotVisible"),
        delayed=_number(said, "ApproximateNumberOfMessagesDelayed"),
    )


def _number(said: Mapping[QueueAttributeNameType, str], name: QueueAttributeNameType) -> int | None:
    text = said.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
