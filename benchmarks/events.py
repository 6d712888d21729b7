"""What reading one event costs by its shape: CPU microseconds an event, each beside the plain one in the same run.

    python benchmarks/events.py

The rounds of the shapes alternate, so that another program's load falls on all of them; the best round of each counts.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.events.event import EventParser
from exporter.events.mapping import EventMapping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVENTS = 2_000
ROUNDS = 40
NOW_SECONDS = 1_700_000_000.0
MESSAGE_MICROSECONDS = 12.0
"""About what a plain message costs in the whole program; see docs/performance.md."""
COUNTRIES = ("AT", "BE", "DE", "DK", "ES", "FR", "IT", "NL", "PL", "SE")
Document = dict[str, Any]


class Shape(NamedTuple):
    """A shape of event: how its body is made from a plain event, and how it is read."""

    name: str
    wrap: Callable[[Document], Document]
    mapping: EventMapping
    attributes: Mapping[str, str] = {}


def _nested(event: Document) -> Document:
    order = {"kind": event["type"], "total": event["value"], "lines": [{"sku": "a-1", "n": 1}] * 3}
    return {"version": 3, "time": event["occurred_at"], "detail": {"order": order, "country": event["country"]}}


def _sns(event: Document) -> Document:
    return {
        "Type": "Notification",
        "MessageId": event["id"],
        "TopicArn": "arn:aws:sns:us-east-2:111122223333:ExampleTopic1",
        "Message": json.dumps(event),
        "Timestamp": "2020-10-06T10:02:05.978Z",
        "SignatureVersion": "1",
        "Signature": "FMG5tlZhJNHLHUXvZgtZzlk24FzVa7oX0T4P03neeXw8ZEXZx6z35j2F" * 6,
        "SigningCertURL": "https://sns.us-east-2.amazonaws.com/SimpleNotificationService-010a507c1833636cd94bdb98.pem",
        "UnsubscribeURL": "https://sns.us-east-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:us-east-2",
    }


def _eventbridge(event: Document) -> Document:
    return {
        "version": "0",
        "id": event["id"],
        "detail-type": event["type"],
        "source": "com.example.shop",
        "account": "111122223333",
        "time": "2020-10-06T10:02:05Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
        "detail": {"value": event["value"], "country": event["country"]},
    }


def _cloudevent(event: Document) -> Document:
    return {
        "specversion": "1.0",
        "type": event["type"],
        "source": "/shop",
        "id": event["id"],
        "time": "2020-10-06T10:02:05Z",
        "datacontenttype": "application/json",
        "data": {"value": event["value"], "country": event["country"]},
    }


def _plain(event: Document) -> Document:
    return {key: event[key] for key in ("type", "value", "occurred_at")}


def _whole(event: Document) -> Document:
    return event


_LABELS = (("currency", "currency"), ("country", "country"), ("new", "new_customer"))
SHAPES = (
    Shape("plain", _plain, EventMapping()),
    Shape(
        "nested",
        _nested,
        EventMapping(type_field="detail.order.kind", value_field="detail.order.total", timestamp_field="time"),
    ),
    Shape("three labels", _whole, EventMapping(labels=_LABELS)),
    Shape("own id", _whole, EventMapping(id_field="id")),
    Shape("SNS, auto", _sns, EventMapping()),
    Shape("SNS, named", _sns, EventMapping(envelope="sns")),
    Shape("EventBridge, auto", _eventbridge, EventMapping()),
    Shape("EventBridge, named", _eventbridge, EventMapping(envelope="eventbridge")),
    Shape("CloudEvents, named", _cloudevent, EventMapping(envelope="cloudevents")),
    Shape("EventBridge in SNS, auto", lambda event: _sns(_eventbridge(event) | {"type": "a"}), EventMapping()),
    Shape("type in an attribute", _plain, EventMapping(type_field="attribute:kind"), {"kind": "page_view"}),
    Shape("each counts 1", _plain, EventMapping(value_field="")),
)


def _events() -> list[Document]:
    choose = random.Random(1)  # noqa: S311 - a sample, no secret
    return [
        {
            "id": f"{choose.getrandbits(128):032x}",
            "type": choose.choice(["page_view", "added-to-basket", "purchase"]),
            "value": choose.randrange(10_000) / 100,
            "occurred_at": f"2020-10-06 10:{choose.randrange(60):02}:{choose.randrange(60):02}",
            "currency": choose.choice(["EUR", "SEK"]),
            "country": choose.choice(COUNTRIES),
            "new_customer": choose.random() < 0.2,  # noqa: PLR2004 - a fifth of them
        }
        for _ in range(EVENTS)
    ]


def measure() -> dict[str, float]:
    """Return CPU microseconds an event by the name of the shape."""
    events = _events()
    runs = [(shape, EventParser(shape.mapping), _bodies(shape, events)) for shape in SHAPES]
    best = dict.fromkeys((shape.name for shape in SHAPES), float("inf"))
    for _ in range(ROUNDS):
        for shape, parser, bodies in runs:
            parse, attributes = parser.parse, shape.attributes
            started = time.thread_time()
            for body in bodies:
                parse(body, sent_at_seconds=NOW_SECONDS, now_seconds=NOW_SECONDS, attributes=attributes)
            best[shape.name] = min(best[shape.name], time.thread_time() - started)
    return {name: seconds / EVENTS * 1e6 for name, seconds in best.items()}


def _bodies(shape: Shape, events: list[Document]) -> list[bytes]:
    return [json.dumps(shape.wrap(event)).encode() for event in events]


def main() -> None:
    """Print the table."""
    measured = measure()
    plain = measured["plain"]
    print(f"{'shape':<28}{'us':>6}  {'beside plain':>12}  {'whole message':>14}")
    for name, microseconds in measured.items():
        whole = (MESSAGE_MICROSECONDS + microseconds - plain) / MESSAGE_MICROSECONDS
        print(f"{name:<28}{microseconds:6.2f}  {microseconds / plain:11.2f}x  {whole:13.2f}x")


if __name__ == "__main__":
    main()
