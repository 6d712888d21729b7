"""Bodies that a stranger may send: a corpus with what has to become of each.

`CASES` are short, `large_cases` are as long as SQS allows.
"""

from __future__ import annotations

import json
from functools import cache
from typing import NamedTuple

from exporter.events.event import MAX_BODY_BYTES, NANO, Event
from exporter.events.mapping import EventMapping

NOW_SECONDS = 1_601_978_600.0
"""2020-10-06 10:03:20 UTC: no timestamp of the corpus is later."""

ONE = Event(("a",), NANO, None)
"""What becomes of `{"type": "a", "value": 1}`."""


class Case(NamedTuple):
    """A body, and the event or the reason that it has to become."""

    name: str
    body: bytes
    outcome: Event | str


def _typed(name: str, type_json: str, outcome: str | None) -> Case:
    return Case(
        name, f'{{"type": {type_json}, "value": 1}}'.encode(), outcome or Event((json.loads(type_json),), NANO, None)
    )


def _valued(name: str, value_json: str, nano: int | None) -> Case:
    body = f'{{"type": "a", "value": {value_json}}}'.encode()
    return Case(name, body, "invalid_value" if nano is None else Event(("a",), nano, None))


def _ignored(name: str, value: bytes, outcome: Event | str = ONE) -> Case:
    return Case(f"{name} in an ignored key", b'{"type": "a", "x": %b, "value": 1}' % value, outcome)


CASES: tuple[Case, ...] = (
    Case("nothing", b"", "invalid_json"),
    Case("white space", b" \t\r\n", "invalid_json"),
    Case("NUL", b"\0", "invalid_json"),
    Case("no JSON", b"page_view 1", "invalid_json"),
    Case("half an object", b'{"type": "a", "value": 1', "invalid_json"),
    Case("two objects", b'{"type": "a", "value": 1}{"type": "a", "value": 1}', "invalid_json"),
    Case("NUL behind", b'{"type": "a", "value": 1}\0', "invalid_json"),
    Case("a trailing comma", b'{"type": "a", "value": 1,}', "invalid_json"),
    Case("single quotes", b"{'type': 'a', 'value': 1}", "invalid_json"),
    Case("a comment", b'{"type": "a", "value": 1} // one', "invalid_json"),
    Case("a byte order mark", b'\xef\xbb\xbf{"type": "a", "value": 1}', "invalid_json"),
    Case("UTF-16", '{"type": "a", "value": 1}'.encode("utf-16"), "invalid_json"),
    Case("white space around", b' \t\r\n{"type" : "a" ,\n"value" : 1 } \t\r\n', ONE),
    Case("half an array", b"[1", "invalid_json"),
    *(
        Case(f"no object: {body}", body.encode(), "not_an_object")
        for body in ("null", "true", "0", "-1.5e3", '"a"', "[]", '["type", "value"]', '[{"type": "a", "value": 1}]')
    ),
    Case("no object: half a surrogate pair", rb'"\ud800"', "not_an_object"),
    Case("an empty object", b"{}", "missing_field"),
    Case("no type", b'{"value": 1}', "missing_field"),
    Case("no value", b'{"type": "a"}', "missing_field"),
    Case("no value, and a wrong type", b'{"type": 1}', "missing_field"),
    Case("a list of records", b'{"Records": [{"eventName": "ObjectCreated:Put"}]}', "several_records"),
    Case("an empty list of records beside a type", b'{"type": "a", "Records": []}', "several_records"),
    Case("records that are no list", b'{"type": "a", "Records": {}}', "missing_field"),
    Case("a list of records beside an event", b'{"type": "a", "Records": [], "value": 1}', ONE),
    Case("other capitals", b'{"Type": "a", "VALUE": 1}', "missing_field"),
    Case("a key with NUL", rb'{"type\u0000": "a", "value": 1}', "missing_field"),
    Case("keys that are escaped", rb'{"\u0074ype": "a", "v\u0061lue": 1}', ONE),
    Case("keys that occur twice", b'{"type": 7, "value": [], "type": "a", "value": 1}', ONE),
    Case("keys that occur twice, the last is wrong", b'{"type": "a", "value": 1, "value": true}', "invalid_value"),
    Case("a type before a value that is wrong", b'{"value": null, "type": null}', "invalid_type"),
    Case("invalid UTF-8 in a type", b'{"type": "\xff", "value": 1}', "invalid_json"),
    Case("invalid UTF-8 in a value", b'{"type": "a", "value": "\xff"}', "invalid_json"),
    Case("invalid UTF-8 in a key", b'{"type": "a", "value": 1, "\xff": 1}', "invalid_json"),
    *(
        _typed(f"type {type_json}", type_json, "invalid_type")
        for type_json in ("null", "true", "1", "1e999", "[]", '["a"]', '{"a": 1}', '""', '"__"', '"__other__"')
    ),
    _typed("type with NUL", r'"a\u0000"', "invalid_type"),
    _typed("type with a newline", r'"a\nb"', "invalid_type"),
    _typed("type with DEL", r'"a\u007f"', "invalid_type"),
    _typed("type with DEL, unescaped", '"a\x7f"', "invalid_type"),
    _typed("type with a C1 control", r'"a\u0085"', "invalid_type"),
    _typed("type with a C1 control, unescaped", '"a\x9f"', "invalid_type"),
    _typed("type with an unescaped newline", '"a\nb"', "invalid_json"),
    _typed("type that is half a surrogate pair", r'"\ud800"', "invalid_type"),
    _typed("type with the other half", r'"a\uDC00b"', "invalid_type"),
    _typed("type with the halves swapped", r'"\ude00\ud83d"', "invalid_type"),
    _typed("type with half a surrogate pair and half an escape", r'"\ud800\u12"', "invalid_json"),
    _typed("type with a wrong escape", r'"\ud8zz"', "invalid_json"),
    _typed("type of 129 characters", json.dumps("a" * 129), "invalid_type"),
    _typed("type of 129 escaped pairs", json.dumps("😀" * 129), "invalid_type"),
    _typed("type of 128 escaped pairs", json.dumps("😀" * 128), None),
    _typed("type of 128 characters", json.dumps("a" * 128), None),
    _typed("type of one space", '" "', None),
    _typed("type with quotes and backslashes", json.dumps('a"b\\ud800\\'), None),
    _typed("type that looks like an exposition", json.dumps('a"} 1 # {'), None),
    _typed("type with right-to-left marks", json.dumps("a\u202eb\u200f"), None),
    _typed("type with line separators", json.dumps("a\u2028b\u2029"), None),
    _typed("type with one underscore", '"_a"', None),
    _typed("type in another script", '"покупка"', None),
    _typed("type with a noncharacter", r'"\ufdd0\uffff"', None),
    _valued("null", "null", None),
    _valued("true", "true", None),
    _valued("false in a string", '"false"', None),
    _valued("an array", "[1]", None),
    _valued("an object", '{"a": 1}', None),
    _valued("an empty string", '""', None),
    *(
        _valued(f"{text!r} in a string", json.dumps(text), None)
        for text in (
            *(" 1", "1 ", "1\n", "\u00a01", "+1", "01", "-01", ".5", "1.", "1e", "1e+", "1.e1", "--1", "-", "e1"),
            *("1_000", "1,000", "1.2.3", "0x10", "1e1.5", "1e1e1", "1/2", "NaN", "nan", "Infinity", "-inf", "1\0"),
            *("\u0661", "1\u00b2", "\uff11", "1e\u0661", "half", "[1]", "null", '"1"', "1d"),
        )
    ),
    *(
        Case(f"the literal {text}", f'{{"type": "a", "value": {text}}}'.encode(), "invalid_json")
        for text in (
            "NaN",
            "Infinity",
            "-Infinity",
            "+1",
            "01",
            ".5",
            "1.",
            "1e",
            "1_000",
            "0x10",
            "-",
            "tru",
            "\u0661",
        )
    ),
    *(
        _valued(f"{name}{text}", quotes.format(text), nano)
        for name, quotes in (("", "{}"), ("a string with ", '"{}"'))
        for text, nano in (
            ("0", 0),
            ("-0.0", 0),
            ("-0e9", 0),
            ("12.34", 12_340_000_000),
            ("-12.34", -12_340_000_000),
            ("1E2", 100 * NANO),
            ("1e+2", 100 * NANO),
            ("100e-2", NANO),
            ("1e-0000000000000000000000009", 1),
            ("123456789012345.123456789", 123_456_789_012_345_123_456_789),
            ("0.1", 100_000_000),
            ("0.0000000005", 0),
            ("0.00000000050000000000000000000000000000000000000000001", 1),
            ("0.0000000015", 2),
            ("0.0000000025", 2),
            ("-0.0000000015", -2),
            ("-0.0000000025", -2),
            ("1000000000000000", 10**24),
            ("-1e15", -(10**24)),
            ("999999999999999.9999999999", 10**24),
            ("1000000000000000.0000000001", None),
            ("-1000000000000000.000000001", None),
            ("18446744073709551616", None),
            ("1e16", None),
            ("1e400", None),
            ("-1e400", None),
            ("1e1000000", None),
            ("1e999999999999999999999999999999", None),
            ("0e999999999999999999999999999999", 0),
            ("1e-400", 0),
            ("-1e-999999999999999999999999999999", 0),
        )
    ),
    _valued("an escaped number in a string", r'"\u0031\u002e\u0035"', 1_500_000_000),
    _valued("half a surrogate pair", r'"1\ud800"', None),
    _ignored("half a surrogate pair", rb'"\ud800"'),
    _ignored("the other half", rb'{"\uDFFF": ["\udfff"]}'),
    _ignored("a half that is no escape", rb'"\\ud800"'),
    _ignored("half a surrogate pair with a wrong escape", rb'"\ud800\q"', "invalid_json"),
    _ignored("the parser's mark behind a backslash", '"\\\ufdd0\\ud800"'.encode(), "invalid_json"),
    _ignored("NUL", rb'"\u0000"'),
    _ignored("a raw NUL", b'"\0"', "invalid_json"),
    _ignored("invalid UTF-8", b'"\xff"', "invalid_json"),
    _ignored("an overlong NUL", b'"\xc0\x80"', "invalid_json"),
    _ignored("an encoded surrogate", b'"\xed\xa0\x80"', "invalid_json"),
    _ignored("half a character", b'"\xe2\x82"', "invalid_json"),
    _ignored("1e400", b"1e400"),
    _ignored("NaN", b"NaN", "invalid_json"),
    _ignored("100 levels", b"[" * 100 + b"]" * 100),
    Case(
        "a pair in a type beside half a pair, with backslashes and the parser's mark",
        '{"x": "\\ud800", "type": "\\ud83d\\ude00\\\\ud800\ufdd0\\u0041", "value": "1"}'.encode(),
        Event(("😀\\ud800\ufdd0A",), NANO, None),
    ),
    Case(
        "a type with half a pair beside half a pair", rb'{"x": "\ud800", "type": "\uDC00", "value": 1}', "invalid_type"
    ),
)


def _filled(name: str, before: bytes, unit: bytes, after: bytes, outcome: Event | str) -> Case:
    body = before + unit * ((MAX_BODY_BYTES - len(before) - len(after)) // len(unit)) + after
    return Case(f"1 MiB: {name}", body, outcome)


@cache
def large_cases() -> tuple[Case, ...]:
    """Return the bodies that are long or deep; made when they are asked for, because they are 40 MiB together."""
    ignored = b'{"type": "a", "value": 1, "x": '
    value, string = b'{"type": "a", "value": ', b'{"type": "a", "value": "'
    deep = 100_000
    return (
        Case("one byte too many", b'{"type": "a", "value": 1}'.ljust(MAX_BODY_BYTES + 1), "too_large"),
        Case("not one byte too many", b'{"type": "a", "value": 1}'.ljust(MAX_BODY_BYTES), ONE),
        Case("100,000 arrays", b"[" * deep + b"]" * deep, "invalid_json"),
        Case("100,000 arrays in an ignored key", ignored + b"[" * deep + b"]" * deep + b"}", "invalid_json"),
        Case("100,000 objects in an ignored key", ignored + b'{"":' * deep + b"1" + b"}" * deep + b"}", "invalid_json"),
        Case("100,000 arrays in a value", value + b"[" * deep + b"]" * deep + b"}", "invalid_json"),
        Case("100,000 arrays beside half a pair", ignored + rb'["\ud800",' + b"[" * deep, "invalid_json"),
        _filled("open arrays", b"", b"[", b"", "invalid_json"),
        _filled("white space", b"", b" ", b"", "invalid_json"),
        _filled("NUL", b"", b"\0", b"", "invalid_json"),
        _filled("an array", b"[", b"[],", b"0]", "not_an_object"),
        _filled("an array of half pairs", b"[", rb'"\ud800",', b"0]", "not_an_object"),
        _filled("other keys", b"{", b'"":0,', b'"value": 1}', "missing_field"),
        _filled("type again and again", b"{", b'"type":"a",', b'"value": 1}', ONE),
        _filled("value again and again", b"{", b'"value":"",', b'"type": "a"}', "invalid_value"),
        _filled("a type", b'{"value": 1, "type": "', b"a", b'"}', "invalid_type"),
        _filled("a type of half pairs", b'{"value": 1, "type": "', rb"\\\ud800", b'"}', "invalid_type"),
        _filled("a type of arrays", b'{"value": 1, "type": [', b"[],", b"0]}", "invalid_type"),
        _filled("small arrays", ignored + b"[", b"[],", b"0]}", ONE),
        _filled("small objects", ignored + b"[", b'{"":0},', b"0]}", ONE),
        _filled("pairs", ignored + b'"', rb"\ud83d\ude00", b'"}', ONE),
        _filled("half pairs", ignored + b'"', rb"\ud800", b'"}', ONE),
        _filled("half pairs in a list", ignored + b"[", rb'"\udfff",', b"0]}", ONE),
        _filled("backslashes and half pairs", ignored + b'"', rb"\\\ud800", b'"}', ONE),
        _filled("backslashes beside half a pair", ignored + rb'"\ud800', rb"\\", b'"}', ONE),
        _filled("the parser's mark beside half a pair", ignored + rb'"\ud800', "\ufdd0".encode(), b'"}', ONE),
        _filled("half pairs, and no end", ignored + b'"', rb"\\\ud800", b"", "invalid_json"),
        _filled("characters of two bytes", ignored + b'"', "é".encode(), b'"}', ONE),
        _filled("characters of four bytes", ignored + b'"', "😀".encode(), b'"}', ONE),
        _filled("invalid UTF-8 at the end", ignored + b'"', "é".encode(), b'\xff"}', "invalid_json"),
        _filled("digits", value, b"9", b"}", "invalid_value"),
        _filled("digits in an ignored key", ignored, b"9", b"}", ONE),
        _filled("digits and a letter", string, b"9", b'x"}', "invalid_value"),
        _filled("digits behind the point", value + b"0.", b"3", b"}", Event(("a",), 333_333_333, None)),
        _filled("digits behind the point and a letter", string + b"0.", b"3", b'x"}', "invalid_value"),
        _filled("zeros behind the point", value + b"1.", b"0", b"}", ONE),
        _filled("zeros behind a half", value + b"0.0000000005", b"0", b"}", Event(("a",), 0, None)),
        _filled("zeros and a one behind a half", value + b"0.0000000005", b"0", b"1}", Event(("a",), 1, None)),
        _filled("zeros that the exponent takes back", value + b"1", b"0", b"e-1048542}", ONE),
        _filled("zeros that an exponent overtakes", value + b"0.", b"0", b"1e99999999}", "invalid_value"),
        _filled("digits of an exponent", value + b"1e", b"9", b"}", "invalid_value"),
        _filled("digits of a negative exponent", value + b"1e-", b"9", b"}", Event(("a",), 0, None)),
        _filled("zeros of an exponent", value + b"1e", b"0", b"}", ONE),
        _filled("zeros of an exponent and a sign", string + b"1e", b"0", b'+"}', "invalid_value"),
        _filled("escaped digits", string, rb"\u0031", b'"}', "invalid_value"),
        _filled("a timestamp", b'{"type": "a", "value": 1, "occurred_at": "', b"2", b'"}', ONE),
        _filled("a timestamp of arrays", b'{"type": "a", "value": 1, "occurred_at": [', b"[],", b"0]}", ONE),
    )


class MappedCase(NamedTuple):
    """A body that is read by a mapping of its own, and the event or the reason that it has to become."""

    name: str
    mapping: EventMapping
    body: bytes
    outcome: Event | str


NESTED = EventMapping(
    type_field="a.type",
    value_field="a.b.value",
    timestamp_field="a.b.at",
    id_field="a.id",
    labels=(("c", "a.b.c"), ("d", "a.d")),
)
DEEPEST = EventMapping(value_field=".".join("a" * 8), labels=(("x", ".".join("a" * 7)),))
CONFLICTING = EventMapping(value_field="x.y.value", labels=(("x", "x"), ("y", "x.y")))
SNS = b'{"Type": "Notification", "TopicArn": "t", "MessageId": "m", "Message": "'


@cache
def large_mapped_cases() -> tuple[MappedCase, ...]:
    """Return long and deep bodies for nested paths and envelopes; made when asked for, because of their size."""
    deep = 100_000
    event = b'"a": {"type": "a", "b": {"value": 1}, "id": '
    no_id = Event(("a", "", ""), NANO, None)
    levels = b'{"type": "a", "a": ' + b'{"a": ' * 7
    default, counted = EventMapping(), EventMapping(value_field="")
    plain = b'{"type": "a", "value": 1, "x": '
    cases = [
        (NESTED, _filled("an array on the way", b'{"a": {"type": "a", "b": [', b"0,", b"0]}}", "missing_field")),
        (NESTED, _filled("a string on the way", b'{"a": "', b"a", b'"}', "missing_field")),
        (NESTED, _filled("digits on the way", b'{"a": ', b"9", b"}", "missing_field")),
        (NESTED, _filled("one key again and again", b"{", b'"a":{"b":{}},', event + b"0}}", "event")),
        (NESTED, _filled("one key, and something else", b"{", b'"a":{"b":1},', event + b"[]}}", no_id)),
        (NESTED, _filled("half pairs on the way", b'{"a": {"b": ["', rb"\ud800", b'"]}, "value": 1}', "missing_field")),
        (NESTED, _filled("half pairs in the id", b"{" + event + b'"', rb"\ud800", b'"}}', "event")),
        (NESTED, _filled("escapes in the id", b"{" + event + b'"', rb"\u0041", b'"}}', "event")),
        (NESTED, _filled("digits of an id", b"{" + event, b"9", b"}}", "event")),
        (NESTED, _filled("an array for an id", b"{" + event + b"[", b"[],", b"0]}}", no_id)),
        (
            CONFLICTING,
            _filled(
                "an object for a label",
                b'{"type": "a", "x": {"y": {"value": 1, "z": [',
                b"0,",
                b"0]}}}",
                Event(("a", "__invalid__", "__invalid__"), NANO, None),
            ),
        ),
        (
            CONFLICTING,
            _filled(
                "half pairs and an object",
                b'{"type": "a", "x": {"y": {"value": 1, "z": "',
                rb"\udfff",
                b'"}}}',
                Event(("a", "__invalid__", "__invalid__"), NANO, None),
            ),
        ),
        (default, _filled("a message of escapes", SNS, rb"\u0020", rb'{\"type\": \"a\", \"value\": 1}"}', ONE)),
        (
            default,
            _filled(
                "a message of half pairs", SNS + rb"{\"x\": \"", rb"\\ud800", rb'\", \"value\": 1}"}', "missing_field"
            ),
        ),
        (default, _filled("a message of raw half pairs", SNS, rb"\ud800", b'"}', "invalid_json")),
        (default, _filled("a message of arrays", SNS, b"[", b'"}', "invalid_json")),
        (
            default,
            _filled("a message of quotes", SNS + b"{", rb"\"\":0,", rb'\"type\": 1, \"value\": 1}"}', "invalid_type"),
        ),
        (
            default,
            _filled(
                "an envelope with half pairs",
                b'{"detail-type": "a", "x": "',
                rb"\ud800",
                b'", "detail": {"value": 1}}',
                ONE,
            ),
        ),
        (counted, _filled("half pairs where envelopes come first", plain + b'["', rb"\ud800", b'"]}', ONE)),
        (counted, _filled("other keys where envelopes come first", plain + b"{", b'"":0,', b'"a":0}}', ONE)),
        (
            default,
            _filled(
                "attributes",
                b'{"type": "a", "MessageAttributes": {',
                b'"":{},',
                b'"":0}, "Records": []}',
                "several_records",
            ),
        ),
    ]
    for name, unit in (("half pairs", rb"\ud800"), ("backslashes beside half a pair", rb"\\"), ("letters", b"a")):
        case = _filled(f"{name} at the deepest path", levels + rb'["\ud800', unit, b'"]' + b"}" * 8, "invalid_value")
        cases.append((DEEPEST, case))
    mapped = [MappedCase(case.name, mapping, case.body, case.outcome) for mapping, case in cases]
    for name, value in (("arrays", b"[" * deep + b"]" * deep), ("objects", b'{"a":' * deep + b"1" + b"}" * deep)):
        mapped += [
            MappedCase(f"100,000 {name} on the way", NESTED, b'{"a": %b}' % value, "invalid_json"),
            MappedCase(
                f"100,000 {name} in a detail", default, b'{"detail-type": "a", "detail": %b}' % value, "invalid_json"
            ),
            MappedCase(
                f"100,000 {name} in a message", default, SNS + value.replace(b'"', rb"\"") + b'"}', "invalid_json"
            ),
        ]
    return tuple(mapped)
