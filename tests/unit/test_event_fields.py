"""Fields: paths into the body, message attributes, the event's own id and the labels."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import InvalidEvent
from exporter.events.event import NANO, Event, EventParser
from exporter.events.fields import attribute_name, parse_path
from exporter.events.labels import parse_labels
from exporter.events.mapping import EventMapping

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW_SECONDS = 1_700_000_000.0


def outcome(
    body: object,
    attributes: Mapping[str, str] | None = None,
    **mapping: Any,  # noqa: ANN401 - fields of EventMapping
) -> Event | tuple[str, str, str]:
    """Return the event in `body`, or reason, field and kind of its rejection."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    parser = EventParser(EventMapping(**mapping))
    try:
        return parser.parse(text, sent_at_seconds=None, now_seconds=NOW_SECONDS, attributes=attributes or {})
    except InvalidEvent as invalid:
        return invalid.reason, invalid.field, invalid.kind


def labels_of(body: object, *paths: str) -> tuple[str, ...]:
    """Return the label values of an event that has a type and a value besides."""
    names = [f"label_{number}" for number in range(len(paths))]
    text = body if isinstance(body, bytes) else json.dumps({"type": "a", "value": 1, **dict(body)}).encode()  # type: ignore[call-overload]
    event = outcome(text, labels=tuple(zip(names, paths, strict=True)))
    assert isinstance(event, Event)
    return event.series[1:]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("type", ("type",)),
        ("detail.order.total", ("detail", "order", "total")),
        ('"a b".c', ("a b", "c")),
        ('detail."order-id"', ("detail", "order-id")),
        ('"a.b"', ("a.b",)),
        (r'"a\"b\\c"', ('a"b\\c',)),
        ('""', ("",)),
        (r'"\u00e9"."preis €"', ("é", "preis €")),
        ("_a1.B", ("_a1", "B")),
        (".".join("a" * 8), ("a",) * 8),
        ('"attribute:x"', ("attribute:x",)),
    ],
)
def test_a_path_is_the_plain_part_of_jmespath(text: str, keys: tuple[str, ...]) -> None:
    """Identifiers with dots between them; any other key stands in double quotes."""
    assert parse_path(text) == keys


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a.", ".a", "a..b", "a b", "order-id", "1a", "a[0]", "a[*].b", "*", "a.*", "a | b", "length(a)"),
        *("@", "$.a", "/a/b", 'a"b"', '"a', '"a"b', "'a'", "`a`", " a", "a\n", r'"\q"', r'"\ud800"', '"\x00"'),
        *(r'"\n"', '"😀"', "größe", "a" * 257, ".".join("a" * 9), "attribute:a"),
    ],
)
def test_anything_else_is_a_wrong_path_and_told_with_an_example(text: str) -> None:
    """The sentence quotes what was written and shows what would be right."""
    with pytest.raises(ValueError, match=r"is not a path such as detail\.order\.total"):
        parse_path(text)


@pytest.mark.parametrize("name", ["event_type", "a.b-C_9", "x" * 256])
def test_a_message_attribute_is_named_as_sqs_allows(name: str) -> None:
    """`attribute:` and a name that SQS takes."""
    assert attribute_name(f"attribute:{name}") == name


@pytest.mark.parametrize("name", ["", "a b", ".a", "a.", "a..b", "AWS.x", "amazon.x", "x" * 257, "é"])
def test_a_name_that_no_attribute_has_is_wrong(name: str) -> None:
    """What SQS would refuse is refused at the start."""
    with pytest.raises(ValueError, match="is not a message attribute such as attribute:event_type"):
        attribute_name(f"attribute:{name}")


def test_fields_are_read_where_their_paths_lead() -> None:
    """Type, value, time and id may lie anywhere in the body."""
    body = {"meta": {"kind": "order", "at": "2020-10-06T12:02:05+02:00"}, "order": {"total": 12.5, "order id": 7}}
    event = outcome(
        body, type_field="meta.kind", value_field="order.total", timestamp_field="meta.at", id_field='order."order id"'
    )
    assert event == Event(("order",), 12_500_000_000, 1_601_978_525.0, digest(b"7"))


def digest(content: bytes) -> bytes:
    """Return what an event remembers of an id."""
    return blake2b(content, digest_size=16, person=b"event id").digest()


def test_a_value_at_a_path_stays_exact() -> None:
    """What no float could hold is counted to the last digit."""
    body = b'{"a": {"type": "x", "b": {"value": 123456789012345.123456789}}}'
    event = outcome(body, type_field="a.type", value_field="a.b.value")
    assert event == Event(("x",), 123_456_789_012_345_123_456_789, None)


@pytest.mark.parametrize("between", ["5", '"b"', "null", "true", "[]", '[{"b": 1}]', "{}", '{"B": 1}'])
def test_a_path_through_something_else_than_an_object_leads_to_nothing(between: str) -> None:
    """Neither strings nor arrays are looked into, and the other fields are read all the same."""
    body = f'{{"type": "x", "a": {between}, "z": {{"y": "here"}}}}'.encode()
    assert outcome(body, value_field="a.b") == ("missing_field", "a.b", "absent")
    event = outcome(body, value_field="", labels=(("b", "a.b"), ("y", "z.y")))
    assert event == Event(("x", "", "here"), NANO, None)


def test_of_a_key_that_occurs_twice_the_last_one_is_read() -> None:
    """As Python's `json` does, also on the way and whatever the first one is."""
    for first in ('{"b": 7, "c": "x"}', "5"):
        body = f'{{"type": "x", "a": {first}, "a": {{"b": 1}}}}'.encode()
        assert outcome(body, value_field="a.b", labels=(("c", "a.c"),)) == Event(("x", ""), NANO, None)


def test_paths_may_go_on_where_others_end() -> None:
    """An object is no label, and what is in it can be read besides."""
    body = {"type": "x", "a": {"b": {"c": 1}}, "value": 1}
    event = outcome(body, value_field="a.b.c", labels=(("a", "a"), ("b", "a.b"), ("c", "a.b.c"), ("again", "a.b.c")))
    assert event == Event(("x", "__invalid__", "__invalid__", "1", "1"), NANO, None)


def test_half_a_surrogate_pair_beside_the_fields_changes_nothing() -> None:
    """The slow way through such a body finds the same fields."""
    body = rb'{"x\ud800": "\udfff", "a": {"t\u0079pe": "\ud83d\ude00", "y": ["\ud800"], "b": {"value": 2}}}'
    event = outcome(body, type_field="a.type", value_field="a.b.value", labels=(("y", "a.y"),))
    assert event == Event(("😀", "__invalid__"), 2 * NANO, None)


@pytest.mark.parametrize(
    ("body", "rejection"),
    [
        (b"[1]", ("not_an_object", "", "array")),
        (b' "a"', ("not_an_object", "", "string")),
        (b"{", ("invalid_json", "", "")),
        ({"v": 1}, ("missing_field", "a.t", "absent")),
        ({"a": {"t": "x"}}, ("missing_field", "v", "absent")),
        ({"a": {"t": 7}, "v": 1}, ("invalid_type", "a.t", "number")),
        ({"a": {"t": {}}, "v": 1}, ("invalid_type", "a.t", "object")),
        ({"a": {"t": "x"}, "v": None}, ("invalid_value", "v", "null")),
        ({"a": {"t": "x"}, "v": True}, ("invalid_value", "v", "boolean")),
        ({"a": {"t": "x"}, "v": []}, ("invalid_value", "v", "array")),
        ({"a": {"t": "x"}, "v": "much"}, ("invalid_value", "v", "string")),
        ({"a": {"t": "x"}, "v": 1}, ("invalid_timestamp", "at", "absent")),
        ({"a": {"t": "x"}, "v": 1, "at": "now"}, ("invalid_timestamp", "at", "string")),
        ({"a": {"t": "x"}, "v": 1, "at": 1e18 * 2}, ("invalid_timestamp", "at", "number")),
    ],
)
def test_a_rejection_names_the_field_and_the_kind_of_its_value(body: object, rejection: tuple[str, str, str]) -> None:
    """It says which field was wrong and what kind of value it held, never the value."""
    mapping: dict[str, Any] = {
        "type_field": "a.t",
        "value_field": "v",
        "timestamp_field": "at",
        "require_timestamp": True,
    }
    assert outcome(body, **mapping) == rejection


def test_an_empty_value_field_counts_each_event_as_1() -> None:
    """Whatever stands under `value` is not looked at."""
    assert outcome({"type": "a", "value": "much"}, value_field="") == Event(("a",), NANO, None)


def test_message_attributes_serve_as_every_field() -> None:
    """Type, value, time, id and label may be the message's own attributes."""
    attributes = {"kind": "order", "amount": "12.5", "at": "2020-10-06T10:02:05Z", "key": "o-1", "tenant": "t1"}
    mapping: dict[str, Any] = {
        "type_field": "attribute:kind",
        "value_field": "attribute:amount",
        "timestamp_field": "attribute:at",
        "id_field": "attribute:key",
        "labels": (("tenant", "attribute:tenant"), ("kind", "attribute:kind"), ("shop", "shop"), ("none", "")),
    }
    event = outcome({"shop": 5}, attributes, **mapping)
    assert event == Event(("order", "t1", "order", "5", ""), 12_500_000_000, 1_601_978_525.0, digest(b"o-1"))
    assert EventParser(EventMapping(**mapping)).attribute_names == ("kind", "amount", "at", "key", "tenant")
    assert outcome({"shop": 5}, {}, **mapping) == ("missing_field", "attribute:kind", "absent")


def test_the_attributes_of_an_sns_notification_serve_the_same() -> None:
    """They come before those of the message that brought it, which it has instead with raw delivery."""
    notification = {
        "Type": "Notification",
        "TopicArn": "arn:aws:sns:us-east-2:111122223333:ExampleTopic1",
        "Message": '{"value": 2}',
        "MessageAttributes": {"kind": {"Type": "String", "Value": "order"}, "tenant": "t1"},
    }
    mapping: dict[str, Any] = {"type_field": "attribute:kind", "labels": (("tenant", "attribute:tenant"),)}
    assert outcome(notification, **mapping) == Event(("order", ""), 2 * NANO, None)
    attributes = {"kind": "other", "tenant": "t2"}
    assert outcome(notification, attributes, **mapping, envelope="sns") == Event(("order", "t2"), 2 * NANO, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1601978525", 1_601_978_525.0),
        ("1601978525123", 1_601_978_525.123),
        ("2020-10-06 10:02:05", 1_601_978_525.0),
        ("soon", None),
        ("", None),
        ('"1601978525"', None),
        ("9" * 5000, None),
    ],
)
def test_a_unix_time_in_an_attribute_is_a_number(text: str, seconds: float | None) -> None:
    """SQS knows attributes as text only, so that a number in one is taken for what it says."""
    event = outcome({"type": "a", "value": 1}, {"at": text}, timestamp_field="attribute:at")
    assert event == Event(("a",), NANO, seconds)


@pytest.mark.parametrize(
    ("json_text", "content"),
    [
        ('"o-1"', b"o-1"),
        (r'"\u006f-1"', b"o-1"),
        ("17", b"17"),
        ("1.0", b"1.0"),
        ('"17"', b"17"),
        ('"é"', "é".encode()),
        (r'"a\ud800"', b"a\xed\xa0\x80"),
        ('""', None),
        *((text, None) for text in ("null", "true", "false", "[]", "{}", '["o-1"]')),
    ],
)
def test_an_id_is_a_string_or_a_number(json_text: str, content: bytes | None) -> None:
    """The digest is of what it says; without one the event has no id and counts all the same."""
    body = f'{{"type": "a", "value": 1, "id": {json_text}}}'.encode()
    assert outcome(body, id_field="id") == Event(("a",), NANO, None, None if content is None else digest(content))


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("EUR", "EUR"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (-1.5, "-1.5"),
        ("é" * 128, "é" * 128),
        ("a\ufdd0", "a\ufdd0"),
        ('a"} 1', 'a"} 1'),
        ("_", "_"),
        ("x" * 129, "__invalid__"),
        (10**128, "__invalid__"),
        ("__other__", "__invalid__"),
        ("a\nb", "__invalid__"),
        ("\x7f", "__invalid__"),
        ("\x85", "__invalid__"),
        ("\ud800", "__invalid__"),
        ([], "__invalid__"),
        ({"a": 1}, "__invalid__"),
        ("x" * 100_000, "__invalid__"),
    ],
)
def test_a_label_takes_what_can_be_shown(value: object, label: str) -> None:
    """Strings, numbers and booleans as text; absent and null are empty; anything else is said to be invalid."""
    assert labels_of({"x": value}, "x", "absent") == (label, "")


def test_a_number_in_a_label_keeps_its_text() -> None:
    """`1.0` and `1e2` are what the sender wrote."""
    assert labels_of(b'{"type": "a", "value": 1, "x": 1.0, "y": 1E2}', "x", "y") == ("1.0", "1E2")


def test_the_same_series_is_the_same_object() -> None:
    """What events have in common is made once."""
    first, second = (outcome({"type": "a", "value": 1, "x": "b"}, labels=(("x", "x"),)) for _ in range(2))
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert first.series is second.series


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", ()),
        ("currency", (("currency", "currency"),)),
        ("currency,country=shipping.country", (("currency", "currency"), ("country", "shipping.country"))),
        (' a = "x, y=".z , b=attribute:B ,', (("a", '"x, y=".z'), ("b", "attribute:B"))),
        ("a=x,b=x", (("a", "x"), ("b", "x"))),
    ],
)
def test_labels_are_names_with_paths(text: str, labels: tuple[tuple[str, str], ...]) -> None:
    """A name alone is its own path; quotes protect commas."""
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    "text",
    [
        *(
            "shipping.country",
            "1a",
            "a-b",
            "é",
            "__a",
            "queue",
            "type=kind",
            "ledger",
            "le",
            "instance",
            "job",
            "cluster",
            "pod",
            "node",
            "a,a",
        ),
        *("=x", "a=", "a=x.", "a=x y", 'a="x', "a==b", 'a"b"', ",".join(f"a{number}" for number in range(11))),
    ],
)
def test_labels_that_prometheus_or_this_program_cannot_have_are_refused(text: str) -> None:
    """Names that are taken or against Prometheus' rules, too many of them, and wrong paths."""
    with pytest.raises(ValueError, match=r"use names with paths|is not a path such as"):
        parse_labels(text)


def test_a_parser_refuses_a_mapping_that_is_wrong() -> None:
    """What settings would refuse is refused here, too."""
    for mapping in ({"type_field": ""}, {"value_field": "a..b"}, {"labels": (("type", "x"),)}, {"timestamp_field": ""}):
        with pytest.raises(ValueError, match=r"use names with paths|is not a path such as"):
            EventParser(EventMapping(**mapping))
