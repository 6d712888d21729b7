"""A shop's mix of events, good and bad, for a producer to send: each body with what it should count as."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from exporter.events.event import NANO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TYPES = ("pageview", "added-to-basket", "purchase")
MIX = (3, 2, 1)
OLD_FRACTION = 0.1
OLD_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Message:
    """A body, and what an exporter that does its job makes of it: an event, or the reason why it is not one."""

    body: str
    type: str
    value_nano: int
    """In 1e-9."""
    reason: str | None = None
    duplicate: bool = False
    """The body was sent before. SQS gives it a MessageId of its own, as to a retry, so it is counted again unless its
    event has an id of its own and --events.id-field says where."""
    deduplication_id: str = field(default="", compare=False)
    """What a FIFO queue knows it by; another one for each message, so that it takes duplicates, too."""


def messages(
    seed: int | None,
    *,
    invalid_fraction: float,
    duplicate_fraction: float,
    event_ids: bool = False,
    now: Callable[[], float] = time.time,
) -> Iterator[Message]:
    """Make messages without end; but for timestamps and ids, the same seed makes the same ones.

    With `event_ids` each event has an id of its own in the field `id`, which a duplicate repeats.
    """
    sample = Random(seed)  # noqa: S311 - a sample, no secret
    run = uuid.uuid4().hex
    numbers = count(1)
    previous: Message | None = None
    while True:
        if previous is not None and sample.random() < duplicate_fraction:
            previous = replace(previous, duplicate=True)
        else:
            event_id = f"{run}-{next(numbers)}" if event_ids else None
            previous = _message(sample, now(), event_id, invalid=sample.random() < invalid_fraction)
        yield replace(previous, deduplication_id=f"{run}-{next(numbers)}")


def _message(sample: Random, now_seconds: float, event_id: str | None, *, invalid: bool) -> Message:
    (name,) = sample.choices(TYPES, MIX)
    cents = {
        "pageview": 100,
        "added-to-basket": 100 * sample.randint(1, 5),
        "purchase": sample.randint(0, 10_000),
    }[name]
    occurred_seconds = now_seconds - (OLD_SECONDS if sample.random() < OLD_FRACTION else 0)
    event: dict[str, Any] = {
        "type": name,
        "value": cents / 100 if name == "purchase" else cents // 100,
        "occurred_at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(occurred_seconds)),
    }
    if event_id is not None:
        event["id"] = event_id
    reason, spoil = sample.choice(_FLAWS) if invalid else (None, json.dumps)
    return Message(spoil(event), name, cents * (NANO // 100), reason)


_FLAWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("missing_field", lambda event: json.dumps({key: event[key] for key in event if key != "type"})),
    ("missing_field", lambda event: json.dumps({key: event[key] for key in event if key != "value"})),
    ("invalid_type", lambda event: json.dumps({**event, "type": 7})),
    ("invalid_type", lambda event: json.dumps({**event, "type": ""})),
    ("invalid_value", lambda event: json.dumps({**event, "value": "a lot"})),
    ("invalid_value", lambda event: json.dumps({**event, "value": True})),
    ("invalid_json", lambda event: json.dumps(event)[:-1]),
    ("invalid_json", lambda _: "not an event"),
    ("not_an_object", lambda event: json.dumps([event])),
    ("not_an_object", lambda _: "42"),
)

REASONS = tuple(dict.fromkeys(reason for reason, _ in _FLAWS))
"""Of `exporter.events.event.REASONS`, those that occur here."""
