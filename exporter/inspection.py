"""`check` says whether a run would work, `peek` how some messages would be counted. Neither counts or deletes."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from exporter.errors import InvalidEvent, LedgerError
from exporter.event import NANO, parse
from exporter.ledger import QueueIdentity
from exporter.ledger.sqlite import SqliteLedger
from exporter.otlp import environment as open_telemetry
from exporter.sqs.connection import connect, queue_name_of
from exporter.sqs.queue import attributes_of
from exporter.web.config import read_web_config

if TYPE_CHECKING:
    from exporter.settings import Settings
    from exporter.sqs import QueueAttributes
    from exporter.sqs.connection import Connection

RECEIVE_MOST = 10


def check(settings: Settings) -> int:
    """Print what a run would find, a line each; returns 1 where something stands in its way. Raises ExporterError.

    The queue is asked for its attributes only: a receive would count towards its maxReceiveCount.
    """
    open_telemetry.wanted(os.environ)
    connection = connect()
    if settings.web.config_file:
        read_web_config(str(settings.web.config_file))
    print(f"settings: right; SQS in region {connection.region} at {connection.endpoint_url}")
    _, attributes = _find(connection, settings.queue)
    print(
        f"queue: {attributes.arn}, visibility timeout {attributes.visibility_timeout_seconds} s, dead-letter queue "
        f"{attributes.dead_letter_queue_arn or 'none'}",
    )
    return _check_ledger(settings, attributes)


def _check_ledger(settings: Settings, attributes: QueueAttributes) -> int:
    path = settings.ledger.path
    if not path.exists():
        print(f"ledger: {path} is not there yet, run will make it: counts start at 0")
        return 0
    try:
        ledger = SqliteLedger(str(path), queue_name=attributes.name, lock_timeout_seconds=0)
        try:
            ledger.bind(QueueIdentity(attributes.name, attributes.arn))
            print(f"ledger: {path} holds {ledger.snapshot.counted} events, {ledger.snapshot.messages} ids remembered")
        finally:
            ledger.close()
    except LedgerError as error:
        if error.reason != "locked":
            raise
        print(f"ledger: {path} is in use, by a running exporter")
    return 0


def peek(settings: Settings, count: int) -> int:
    """Print how up to `count` messages would be counted, a JSON object each, and make them visible again at once.

    Each receive counts towards the queue's maxReceiveCount. Bodies are not shown. Raises ExporterError.
    """
    connection = connect()
    url, attributes = _find(connection, settings.queue)
    seen: set[str] = set()
    handles: list[str] = []
    try:
        while len(seen) < count:
            received = connection.client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=min(RECEIVE_MOST, count - len(seen)),
                WaitTimeSeconds=1,
                VisibilityTimeout=attributes.visibility_timeout_seconds or 1,
            )
            messages = received.get("Messages", [])
            fresh = [message for message in messages if message["MessageId"] not in seen]
            if not fresh:
                break
            handles += [message["ReceiptHandle"] for message in messages]
            for message in fresh:
                seen.add(message["MessageId"])
                body = message["Body"].encode("utf-8", "surrogatepass")
                print(json.dumps({"message_id": message["MessageId"], **_outcome(body, settings)}))
    finally:
        for handle in handles:
            connection.client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    return 0


def _find(connection: Connection, queue: str) -> tuple[str, QueueAttributes]:
    try:
        url = connection.queue_url(queue)
        said = connection.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except Exception as error:
        raise connection.unavailable(queue, error) from error
    return url, attributes_of(queue_name_of(queue), said)


def _outcome(body: bytes, settings: Settings) -> dict[str, object]:
    try:
        event = parse(body, now_seconds=time.time(), require_timestamp=settings.events.require_timestamp)
    except InvalidEvent as invalid:
        return {"rejected": invalid.reason}
    return {
        "type": event.type,
        "value": event.value_nano / NANO,
        "occurred_at_seconds": event.occurred_at_seconds,
    }
