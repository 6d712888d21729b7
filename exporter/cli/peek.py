"""`peek`: shows how some messages would be counted, and makes them visible again."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING

from exporter.cli.command_line import configure, one_queue
from exporter.cli.options import PeekOptions
from exporter.cli.terminal import Progress
from exporter.errors import ExporterError, InvalidEvent
from exporter.events.event import NANO, EventParser
from exporter.settings.sources import read_options
from exporter.sqs import BATCH_SIZE, QueueAttributes
from exporter.sqs.aws import connect
from exporter.sqs.failures import reason_of
from exporter.sqs.lookups import QueueLookup
from exporter.telemetry import logs
from exporter.telemetry.line_writer import line_start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from exporter.cli.command_line import Invocation
    from exporter.sqs.aws import Connection


def execute(invocation: Invocation) -> int:
    """Print how up to `--count` messages would be counted, a JSON object each, and make them visible again at once.

    Each receive counts towards the queue's maxReceiveCount: where there is one, or it can't be known, `--force` is
    needed. Bodies are not shown. Raises ExporterError.
    """
    settings, options = configure(invocation), read_options(PeekOptions, invocation.options)
    queue = one_queue(settings, "peek")
    connection = connect(queues=settings.queue).for_queue(queue)
    look = _Look(connection, queue)
    logs.say(look.warning)
    if look.needs_force and not options.force:
        raise ExporterError(f"peek does not look at {look.attributes.name} without --force: {look.why}")
    parser = EventParser(settings.event_mapping(look.attributes.name))
    shown = 0
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # through `finally`
    try:
        with Progress("peek", options.count) as progress:
            for message in look.messages(options.count, parser.attribute_names):
                outcome = _outcome(message, parser, settings.label_names)
                print(line_start(sys.stdout) + json.dumps({"message_id": message["MessageId"], **outcome}), flush=True)
                shown += 1
                progress.advance()
    finally:
        look.give_back()
    if not shown:
        logs.say(f"no message is visible in {look.attributes.name} now: it is empty, or others hold what is in it")
    return 0


class _Look:
    """A look at one queue: what it changes is said beforehand, and each message goes back."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._handles: list[str] = []
        lookup = QueueLookup(connection, queue)
        try:
            look = lookup.look()
        except Exception as error:
            raise connection.unavailable(queue, error) from error
        self._url = look.target.queue_url
        self.attributes: QueueAttributes = look.attributes or lookup.assumed_attributes(look.target)

    @property
    def needs_force(self) -> bool:
        """Whether looking may move messages to a dead-letter queue."""
        return self.attributes.assumed or self.attributes.dead_letter_queue_arn is not None

    @property
    def why(self) -> str:
        """Why it needs force."""
        if self.attributes.assumed:
            return "its attributes may not be read (sqs:GetQueueAttributes), so it may have a redrive policy"
        dead = str(self.attributes.dead_letter_queue_arn).rpartition(":")[2]
        times = self.attributes.max_receive_count or 0
        return (
            f"its redrive policy moves a message to {dead} when it was received {times} times without being deleted, "
            f"and each look is one of them"
        )

    @property
    def warning(self) -> str:
        """What a look changes."""
        said = f"each message that peek shows counts as received once more: {self.attributes.name}"
        if self.attributes.assumed:
            return f"{said} may have a redrive policy, which can't be read"
        if self.attributes.dead_letter_queue_arn is None:
            return f"{said} has no redrive policy, so nothing comes of it"
        return f"{said} moves a message to its dead-letter queue after {self.attributes.max_receive_count} receives"

    def messages(self, count: int, attribute_names: Sequence[str]) -> Iterator[MessageTypeDef]:
        """Receive messages until there are no more, or so many. Raises QueueUnavailableError."""
        seen: set[str] = set()
        while len(seen) < count:
            try:
                received = self._connection.client.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=min(BATCH_SIZE, count - len(seen)),
                    WaitTimeSeconds=1,
                    VisibilityTimeout=self.attributes.visibility_timeout_seconds,
                    MessageSystemAttributeNames=["SentTimestamp"],
                    MessageAttributeNames=list(attribute_names),
                )
            except Exception as error:
                raise self._connection.unavailable(self._queue, error) from error
            messages = received.get("Messages", [])
            self._handles += [message["ReceiptHandle"] for message in messages]
            fresh = [message for message in messages if message["MessageId"] not in seen]
            if not fresh:
                return
            seen.update(message["MessageId"] for message in fresh)
            yield from fresh

    def give_back(self) -> None:
        """Make all messages visible again; a sentence says so where that fails."""
        left = 0
        reason = ""
        for start in range(0, len(self._handles), BATCH_SIZE):
            handles = self._handles[start : start + BATCH_SIZE]
            try:
                answer = self._connection.client.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {"Id": str(position), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                        for position, handle in enumerate(handles)
                    ],
                )
                failed = answer.get("Failed", [])
                left += len(failed)
                reason = failed[0]["Code"] if failed else reason
            except Exception as error:  # noqa: BLE001 - they come back by themselves, whatever it was
                left += len(handles)
                denied = reason_of(error) == "access_denied"
                reason = "grant sqs:ChangeMessageVisibility" if denied else reason_of(error)
        self._handles = []
        if left:
            seconds = self.attributes.visibility_timeout_seconds
            logs.say(f"{left} messages could not be given back ({reason}): they are visible again after {seconds} s")


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
