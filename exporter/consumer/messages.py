"""What the messages of answers come to: what to commit of them, what is due after the commit, how old they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.errors import InvalidEvent
from exporter.ledger import Delivery
from exporter.ledger.message_ids import remembered_ids
from exporter.sqs.answers import Deletion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.events.event import EventParser
    from exporter.sqs.answers import Message, Received


@dataclass(slots=True)
class Parsed:
    """What answers brought: what to commit, and what is due once it is committed."""

    received: Sequence[Received]
    deliveries: list[Delivery] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    left: list[Deletion] = field(default_factory=list)
    """Messages that are no events, left to the queue's redrive policy."""
    invalid: list[tuple[Message, InvalidEvent]] = field(default_factory=list)
    """Messages that are no events, and why; they are in `left` or in `deletions`, too."""


def parse(received: Sequence[Received], parser: EventParser, wall_seconds: float, *, leave_invalid: bool) -> Parsed:
    """Read the messages of answers; `wall_seconds` is Unix time now."""
    parsed = Parsed(received)
    deliver, delete = parsed.deliveries.append, parsed.deletions.append
    parse_body = parser.parse
    for answer in received:
        messages = answer.messages
        valid_until = answer.sent_at + answer.visibility_timeout_seconds
        message_ids = remembered_ids([message.message_id for message in messages])
        for message, message_id in zip(messages, message_ids, strict=True):
            deletion = Deletion(message_id, message.receipt_handle, valid_until)
            try:
                event = parse_body(
                    message.body,
                    sent_at_seconds=message.sent_at_seconds,
                    now_seconds=wall_seconds,
                    attributes=message.attributes,
                )
            except InvalidEvent as invalid:
                parsed.invalid.append((message, invalid))
                deliver(Delivery(message_id, invalid.reason))
                if leave_invalid:
                    parsed.left.append(deletion)
                    continue
            else:
                deliver(Delivery(message_id, event))
            delete(deletion)
    return parsed


def oldest_age_seconds(answer: Received, wall: Callable[[], float]) -> float:
    """Return how long the oldest of the messages was in the queue, as far as SQS said when they were sent, else 0."""
    sent = [message.sent_at_seconds for message in answer.messages if message.sent_at_seconds is not None]
    return wall() - min(sent) if sent else 0.0


def ages_seconds(parsed: Parsed, fresh: Sequence[bool], wall_seconds: float) -> tuple[list[float], list[float]]:
    """Return how old the events and their messages are that a commit counted; below 0 where a clock runs ahead.

    `fresh` says of each delivery whether it was new. Of an event without a timestamp only the message's age is known.
    """
    outcomes = [delivery.outcome for delivery in parsed.deliveries]
    sent_at = [message.sent_at_seconds for answer in parsed.received for message in answer.messages]
    counted = [
        (outcome.occurred_at_seconds, at)
        for outcome, at, is_fresh in zip(outcomes, sent_at, fresh, strict=True)
        if is_fresh and not isinstance(outcome, str)
    ]
    event_ages_seconds = [wall_seconds - at for at, _ in counted if at is not None]
    message_ages_seconds = [wall_seconds - at for _, at in counted if at is not None]
    return event_ages_seconds, message_ages_seconds
