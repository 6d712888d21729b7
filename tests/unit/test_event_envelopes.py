"""Envelopes: what SNS, EventBridge and CloudEvents wrap around an event, by the samples of their documentation."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from exporter.errors import InvalidEvent
from exporter.events.event import NANO, Event, EventParser
from exporter.events.mapping import EventMapping

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES = Path(__file__).parent.parent / "samples"
LATER_SECONDS = 1_700_000_000.0
Name = Literal["sns", "eventbridge", "cloudevents"]


def sample(name: str, **changes: object) -> bytes:
    """Return the body of a sample; a key that is changed to None is left out."""
    document = json.loads((SAMPLES / f"{name}.json").read_bytes()) | changes
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def outcome(
    body: bytes,
    attributes: Mapping[str, str] | None = None,
    **mapping: Any,  # noqa: ANN401 - fields of EventMapping
) -> Event | tuple[str, str, str]:
    """Return the event in `body`, or reason, field and kind of its rejection."""
    parser = EventParser(EventMapping(**mapping))
    try:
        return parser.parse(body, sent_at_seconds=LATER_SECONDS, now_seconds=0, attributes=attributes or {})
    except InvalidEvent as invalid:
        return invalid.reason, invalid.field, invalid.kind


def digest(text: str) -> bytes:
    """Return what an event remembers of an id."""
    return blake2b(text.encode(), digest_size=16, person=b"event id").digest()


def test_an_sns_notification_gives_the_event_its_time_and_its_id() -> None:
    """Type and value are the message's; what it has not, but for the type, is the notification's."""
    event = outcome(sample("sns_event"), id_field="id")
    assert event == Event(
        ("purchase",), 12_500_000_000, 1_613_511_679.978, digest("dc1e94d9-56c5-5e96-808d-cc7f68faa162")
    )


def test_an_sns_notification_never_gives_the_type() -> None:
    """`Type` and `Subject` say nothing of the event."""
    body = sample("sns_event", Message='{"value": 1}')
    assert outcome(body) == ("missing_field", "type", "absent")


def test_what_the_event_says_itself_comes_before_its_envelope() -> None:
    """Type, time and id of the event are used where it has them, in each envelope."""
    event = {"type": "own", "value": 1, "occurred_at": "2020-10-06 10:02:05", "id": "own-1"}
    bodies = [
        sample("sns_event", Message=json.dumps(event)),
        sample("eventbridge_order", detail=event),
        sample("cloudevents_json", data=event),
    ]
    own = Event(("own",), NANO, 1_601_978_525.0, digest("own-1"))
    # By name: a CloudEvent has a type and an id at the top, where "auto" looks first.
    names = ("sns", "eventbridge", "cloudevents")
    assert [outcome(body, id_field="id", envelope=name) for body, name in zip(bodies, names, strict=True)] == [own] * 3


def test_a_time_that_is_there_but_unreadable_is_not_replaced() -> None:
    """The envelope helps out only where the event says nothing; null says nothing."""
    for occurred_at, seconds in (("now", None), (None, 1_601_978_525.0)):
        body = sample("eventbridge_order", detail={"type": "a", "value": 1, "occurred_at": occurred_at})
        assert outcome(body) == Event(("a",), NANO, seconds)


def test_raw_delivery_and_a_notification_give_the_same_event() -> None:
    """The message is read as raw delivery would have brought it."""
    message = '{"type": "a", "value": "1.5", "occurred_at": "2020-10-06 10:02:05", "x": "\\ud800"}'
    event = Event(("a",), 1_500_000_000, 1_601_978_525.0)
    assert outcome(sample("sns_event", Message=message)) == outcome(message.encode()) == event


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Hello world!", ("invalid_json", "", "")),
        ('"Hello"', ("not_an_object", "", "string")),
        ("[]", ("not_an_object", "", "array")),
        ("", ("invalid_json", "", "")),
        ("\ud800", ("invalid_json", "Message", "string")),
    ],
)
def test_a_message_that_is_no_json_object_is_rejected_for_that(message: str, reason: tuple[str, str, str]) -> None:
    """The reason is the one that raw delivery would have given."""
    assert outcome(sample("sns_event", Message=message)) == reason


def test_an_eventbridge_event_gives_type_time_and_id() -> None:
    """`detail-type`, `time` and `id` serve where `detail` has none."""
    event = outcome(sample("eventbridge_order"), value_field="order.total", id_field="id")
    order = Event(("OrderPlaced",), 149_990_000_000, 1_601_978_525.0, digest("17793124-05d4-b198-2fde-7ededc63b103"))
    assert event == order


def test_an_event_of_aws_itself_is_counted_by_its_detail_type() -> None:
    """With an empty value field the documented event of EC2 counts 1."""
    event = outcome(sample("eventbridge_ec2"), value_field="", labels=(("state", "state"),))
    assert event == Event(("EC2 Instance State-change Notification", "terminated"), NANO, 1_513_968_228.0)


def test_a_cloudevent_gives_type_time_and_its_source_and_id_together() -> None:
    """`type` and `time` serve where `data` has none; only `source` and `id` together are unique."""
    event = outcome(sample("cloudevents_json"), value_field="appinfoB", id_field="id", envelope="cloudevents")
    assert event == Event(
        ("com.example.someevent",), 123 * NANO, 1_522_949_460.0, digest("10:/mycontextC234-1234-1234")
    )
    other = outcome(sample("cloudevents_json", source="/other"), value_field="appinfoB", id_field="order")
    assert isinstance(event, Event)
    assert isinstance(other, Event)
    assert other.event_id not in {event.event_id, None}


@pytest.mark.parametrize("name", ["cloudevents_xml", "cloudevents_binary"])
def test_a_cloudevent_without_json_data_counts_1_where_that_is_wanted(name: str) -> None:
    """Data that is no object has no fields: it lacks a value, unless each event counts 1."""
    assert outcome(sample(name), value_field="") == Event(("com.example.someevent",), NANO, 1_522_949_460.0)
    assert outcome(sample(name)) == ("missing_field", "value", "absent")


@pytest.mark.parametrize(
    ("name", "value_field", "series", "seconds"),
    [
        ("eventbridge_in_sns", "order.total", "OrderPlaced", 1_601_978_525.0),
        ("cloudevents_in_sns", "value", "purchase", 1_522_949_460.0),
    ],
)
@pytest.mark.parametrize("envelope", ["auto", "sns", "inner"])
def test_an_envelope_inside_sns_is_unwrapped_as_well(
    name: str, value_field: str, series: str, seconds: float, envelope: str
) -> None:
    """The inner one's time comes before the notification's, whichever of them is named."""
    wanted = name.partition("_")[0] if envelope == "inner" else envelope
    event = outcome(sample(name), value_field=value_field, envelope=wanted)
    assert isinstance(event, Event)
    assert (event.type, event.occurred_at_seconds) == (series, seconds)


def test_an_inner_envelope_without_time_and_id_takes_those_of_sns() -> None:
    """What the inner one lacks is the notification's."""
    inner = json.loads(sample("eventbridge_order", time=None, id=None, detail={"value": 1}))
    event = outcome(sample("sns_event", Message=json.dumps(inner)), id_field="order")
    assert event == Event(("OrderPlaced",), NANO, 1_613_511_679.978, digest("dc1e94d9-56c5-5e96-808d-cc7f68faa162"))


def test_a_notification_in_a_notification_is_not_unwrapped() -> None:
    """Unwrapping ends after SNS and one of the others, so that it is bounded."""
    body = sample("sns_event", Message=sample("sns_event").decode())
    assert outcome(body) == ("missing_field", "type", "absent")
    assert outcome(body, envelope="eventbridge") == ("not_an_envelope", "", "")


@pytest.mark.parametrize("envelope", ["auto", "none"])
def test_a_plain_event_needs_no_envelope(envelope: str) -> None:
    """What is an event at the top is read there, whatever else it holds."""
    body = sample("eventbridge_order", type="plain", value=2)
    assert outcome(body, envelope=envelope) == Event(("plain",), 2 * NANO, None)


def test_an_event_that_does_not_fit_at_the_top_is_looked_for_in_the_envelope() -> None:
    """A field that is at the top by chance, and wrong there, hides nothing."""
    body = sample("eventbridge_order", detail={"resources": "stock", "value": 3})
    assert outcome(body, type_field="resources") == Event(("stock",), 3 * NANO, 1_601_978_525.0)


def test_each_event_counts_1_in_its_envelope_first() -> None:
    """With an empty value field nearly anything with a type is an event, so the envelope comes first."""
    body = sample("cloudevents_json", data={"type": "inner"})
    assert outcome(body, value_field="") == Event(("inner",), NANO, 1_522_949_460.0)
    assert outcome(b'{"type": "a"}', value_field="") == Event(("a",), NANO, None)


@pytest.mark.parametrize("name", ["sns_event", "eventbridge_order", "cloudevents_json"])
def test_none_unwraps_nothing(name: str) -> None:
    """With `none` an envelope is an object like any other."""
    assert outcome(sample(name), value_field="value", envelope="none") == (
        ("missing_field", "value" if name == "cloudevents_json" else "type", "absent")
    )


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        ("sns", sample("eventbridge_order")),
        ("sns", sample("sns_event", Type="SubscriptionConfirmation")),
        ("sns", sample("sns_event", TopicArn=None)),
        ("sns", sample("sns_event", Message={"type": "a", "value": 1})),
        ("eventbridge", sample("cloudevents_json")),
        ("eventbridge", sample("eventbridge_order", detail=None)),
        ("eventbridge", sample("sns_event")),
        ("cloudevents", sample("eventbridge_order")),
        ("cloudevents", sample("cloudevents_json", source=None)),
        *((name, b'{"type": "a", "value": 1}') for name in ("sns", "eventbridge", "cloudevents")),
    ],
)
def test_a_named_envelope_that_is_not_there_is_said(envelope: Name, body: bytes) -> None:
    """Without its envelope a message is `not_an_envelope`, even where it is an event."""
    assert outcome(body, envelope=envelope) == ("not_an_envelope", "", "")


@pytest.mark.parametrize("envelope", ["auto", "none", "sns", "eventbridge", "cloudevents"])
@pytest.mark.parametrize("value_field", ["value", ""])
def test_a_list_of_records_is_said_to_be_one(envelope: str, value_field: str) -> None:
    """A notification of S3 holds several events; it is not counted as one."""
    assert outcome(sample("s3_put"), envelope=envelope, value_field=value_field) == (
        "several_records",
        "Records",
        "array",
    )


def test_records_in_a_notification_are_said_as_well() -> None:
    """S3 through SNS gives the same reason; its test message is no list."""
    assert outcome(sample("s3_in_sns")) == ("several_records", "Records", "array")
    assert outcome(sample("s3_test")) == ("missing_field", "type", "absent")


def test_an_envelopes_id_is_used_only_where_an_id_field_is_set() -> None:
    """Without it no event has an id, and SQS' MessageId serves."""
    for name in ("sns_event", "eventbridge_order", "cloudevents_json"):
        event = outcome(sample(name), value_field="")
        assert isinstance(event, Event) or name == "sns_event"
        assert getattr(event, "event_id", None) is None


@pytest.mark.parametrize("message_id", ["", None, 7, ["m"]])
def test_an_envelope_without_a_usable_id_gives_none(message_id: object) -> None:
    """A number is an id, too; what is neither that nor a string is none."""
    event = outcome(sample("sns_event", MessageId=message_id), id_field="id")
    assert isinstance(event, Event)
    assert event.event_id == (digest("7") if message_id == 7 else None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"time": "soon"}, "time"), ({"detail-type": "__x"}, "detail-type"), ({"time": None}, "time")],
)
def test_a_rejection_names_the_envelopes_field(changes: dict[str, object], field: str) -> None:
    """Where type or time came from the envelope, its key is the one that was wrong."""
    rejection = outcome(sample("eventbridge_order", **changes), value_field="", require_timestamp=True)
    assert isinstance(rejection, tuple)
    assert rejection[1:] == (field, "absent" if changes[field] is None else "string")
