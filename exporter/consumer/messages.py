"""What the messages of answers come to: what to commit of them, what is due after the commit, how old they were."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from exporter.errors import InvalidEvent
from exporter.ledger import Delivery
from exporter.ledger.message_ids import remembered_ids
from exporter.sqs.answers import Deletion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.events.event import Event, EventParser
    from exporter.sqs.answers import Message, Received

SKEW_ERROR_SECONDS = 0.5
"""How exactly a clock skew is known: what SQS says of its own clock is cut to whole seconds."""


@dataclass(slots=True)
class Parsed:
    """What answers brought: what to commit, and what is due once it is committed."""

    deliveries: list[Delivery]
    sent_at_seconds: list[float | None]
    """Of each delivery: Unix time at which its message was sent, None where SQS did not say."""
    deletions: list[Deletion]
    left: list[Deletion]
    """Messages that are no events, left to the queue's redrive policy."""
    invalid: list[tuple[Message, InvalidEvent]]
    """Messages that are no events, and why; they are in `left` or in `deletions`, too."""


def parse(received: Sequence[Received], parser: EventParser, wall_seconds: float, *, leave_invalid: bool) -> Parsed:
    """Read the messages of answers; `wall_seconds` is Unix time now."""
    messages: list[Message] = []
    valid_until: list[float] = []
    for answer in received:
        messages += answer.messages
        valid_until += [answer.sent_at + answer.visibility_timeout_seconds] * len(answer.messages)
    outcomes: list[Event | str] = []
    invalid: list[tuple[Message, InvalidEvent]] = []
    sent_at_seconds = [message.sent_at_seconds for message in messages]
    parse_body = parser.parse
    for message, sent_at in zip(messages, sent_at_seconds, strict=True):
        try:
            outcomes.append(parse_body(message.body, sent_at, wall_seconds, message.attributes))
        except InvalidEvent as error:
            outcomes.append(error.reason)
            invalid.append((message, error))
    message_ids = remembered_ids([message.message_id for message in messages])
    handles = [message.receipt_handle for message in messages]
    deletions = list(map(Deletion, message_ids, handles, valid_until))
    left: list[Deletion] = []
    if leave_invalid and invalid:
        are_events = [not isinstance(outcome, str) for outcome in outcomes]
        left = [deletion for deletion, is_event in zip(deletions, are_events, strict=True) if not is_event]
        deletions = list(compress(deletions, are_events))
    return Parsed(list(map(Delivery, message_ids, outcomes)), sent_at_seconds, deletions, left, invalid)


def oldest_age_seconds(answer: Received, wall: Callable[[], float], clock_skew_seconds: float | None) -> float:
    """Return how long the oldest of the messages was in the queue, as far as SQS said when they were sent, else 0.

    Rather too short than too long: `clock_skew_seconds` is about how far `wall` is ahead of SQS's clock, None where
    that is not known.
    """
    sent = [message.sent_at_seconds for message in answer.messages if message.sent_at_seconds is not None]
    if not sent:
        return 0.0
    age_seconds = wall() - min(sent)
    if clock_skew_seconds is not None and clock_skew_seconds > SKEW_ERROR_SECONDS:
        age_seconds -= clock_skew_seconds + SKEW_ERROR_SECONDS
    return age_seconds


def ages_seconds(parsed: Parsed, fresh: Sequence[bool], wall_seconds: float) -> tuple[list[float], list[float]]:
    """Return how old the events and their messages are that a commit counted; below 0 where a clock runs ahead.

    `fresh` says of each delivery whether it was new. Of an event without a timestamp only the message's age is known.
    """
    event_ages_seconds: list[float] = []
    message_ages_seconds: list[float] = []
    for delivery, sent_at, is_fresh in zip(parsed.deliveries, parsed.sent_at_seconds, fresh, strict=True):
        event = delivery.outcome
        if is_fresh and not isinstance(event, str):
            if event.occurred_at_seconds is not None:
                event_ages_seconds.append(wall_seconds - event.occurred_at_seconds)
            if sent_at is not None:
                message_ages_seconds.append(wall_seconds - sent_at)
    return event_ages_seconds, message_ages_seconds
