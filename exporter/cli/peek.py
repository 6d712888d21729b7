"""`peek`: shows how some messages would be counted, and makes them visible again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from exporter.cli.command_line import configure, one_queue
from exporter.cli.options import PeekOptions
from exporter.errors import InvalidEvent
from exporter.events.event import NANO, EventParser
from exporter.settings.sources import read_options
from exporter.sqs.aws import connect
from exporter.sqs.lookups import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from exporter.cli.command_line import Invocation

RECEIVE_MOST = 10


def execute(invocation: Invocation) -> int:
    """Print how up to `--count` messages would be counted, a JSON object each, and make them visible again at once.

    Each receive counts towards the queue's maxReceiveCount. Bodies are not shown. Raises ExporterError.
    """
    settings, count = configure(invocation), read_options(PeekOptions, invocation.options).count
    connection = connect()
    url, attributes = find(connection, one_queue(settings, "peek"))
    parser = EventParser(settings.event_mapping(attributes.name))
    seen: set[str] = set()
    handles: list[str] = []
    try:
        while len(seen) < count:
            received = connection.client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=min(RECEIVE_MOST, count - len(seen)),
                WaitTimeSeconds=1,
                VisibilityTimeout=attributes.visibility_timeout_seconds or 1,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=list(parser.attribute_names),
            )
            messages = received.get("Messages", [])
            fresh = [message for message in messages if message["MessageId"] not in seen]
            if not fresh:
                break
            handles += [message["ReceiptHandle"] for message in messages]
            for message in fresh:
                seen.add(message["MessageId"])
                outcome = _outcome(message, parser, settings.label_names)
                print(json.dumps({"message_id": message["MessageId"], **outcome}))
    finally:
        for handle in handles:
            connection.client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    return 0


def _outcome(message: MessageTypeDef, parser: EventParser, label_names: Sequence[str]) -> Mapping[str, object]:
    """Return how a message would be counted, or the reason why not: which field was wrong, and what kind it held."""
    sent_at = message.get("Attributes", {}).get("SentTimestamp")
    texts = {name: attribute.get("StringValue") for name, attribute in message.get("MessageAttributes", {}).items()}
    try:
        event = parser.parse(
            message["Body"].encode("utf-8", "surrogatepass"),
            sent_at_seconds=None if sent_at is None else int(sent_at) / 1000,
            now_seconds=time.time(),
            attributes={name: text for name, text in texts.items() if text is not None},
        )
    except InvalidEvent as invalid:
        return {"rejected": invalid.reason} | ({"field": invalid.field, "held": invalid.kind} if invalid.field else {})
    labels = dict(zip(label_names, event.series[1:], strict=True))
    return {
        "type": event.type,
        **({"labels": labels} if labels else {}),
        "value": event.value_nano / NANO,
        "occurred_at_seconds": event.occurred_at_seconds,
    }
