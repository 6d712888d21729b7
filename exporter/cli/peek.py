"""`peek`: shows how some messages would be counted, and makes them visible again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from exporter.cli.command_line import configure
from exporter.cli.options import PeekOptions
from exporter.errors import InvalidEvent
from exporter.events.event import NANO, parse
from exporter.settings.sources import read_options
from exporter.sqs.aws import connect
from exporter.sqs.lookups import find

if TYPE_CHECKING:
    from exporter.cli.command_line import Invocation
    from exporter.settings import Settings

RECEIVE_MOST = 10


def execute(invocation: Invocation) -> int:
    """Print how up to `--count` messages would be counted, a JSON object each, and make them visible again at once.

    Each receive counts towards the queue's maxReceiveCount. Bodies are not shown. Raises ExporterError.
    """
    settings, count = configure(invocation), read_options(PeekOptions, invocation.options).count
    connection = connect()
    url, attributes = find(connection, settings.queue)
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
