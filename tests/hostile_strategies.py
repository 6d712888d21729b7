"""Hypothesis strategies for bodies that a stranger may send; see `hostile` for the corpus."""

from __future__ import annotations

import copy
import json
import re
from typing import Any, NamedTuple

from hostile import CASES
from hypothesis import strategies as st

from exporter.events.mapping import EventMapping


def number_texts() -> st.SearchStrategy[str]:
    """Generate what the grammar of JSON calls a number: ties, limits and absurd exponents among them."""
    digits = st.text("0123456789", max_size=40)
    exponents = st.integers(-30, 30) | st.integers()
    return st.builds(
        lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
        st.sampled_from(["", "-"]),
        st.one_of(st.integers(0, 10**16), st.just(10**15), st.integers(0)).map(str),
        st.one_of(
            st.just(""),
            digits.map(lambda text: f".0{text}"),
            st.builds("{:09d}5{}".format, st.integers(0, 10**9 - 1), digits).map(".{}".format),
        ),
        st.just("") | st.builds("{}{}".format, st.sampled_from(["e", "E", "e+0"]), exponents.map(abs) | exponents),
    ).filter(lambda text: "+0-" not in text)


def json_values() -> st.SearchStrategy[Any]:
    """Generate whatever JSON can say, lone surrogates and NaN included."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=())),
        number_texts(),
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )


@st.composite
def event_bodies(draw: st.DrawFn) -> bytes:
    """Generate objects that are events, or would be but for a field or two."""
    names = st.sampled_from(["page_view", "added-to-basket", "purchase", "__other__"]) | st.text(max_size=130)
    values = json_values().map(json.dumps)
    fields: list[tuple[str, str]] = [
        ("type", json.dumps(draw(names | json_values()), ensure_ascii=draw(st.booleans()))),
        ("value", draw(st.one_of(st.just("1.5"), number_texts(), number_texts().map(json.dumps), values))),
        (
            "occurred_at",
            json.dumps(draw(st.sampled_from(["2020-10-06 10:02:05", "2020-10-06T12:00:00Z"]) | json_values())),
        ),
    ]
    keys = st.sampled_from(["type", "value", "occurred_at"]) | st.text(max_size=3)
    extra = draw(st.lists(st.tuples(keys, json_values().map(json.dumps)), max_size=2))
    chosen = draw(st.permutations([*fields, *extra]))[draw(st.sampled_from([0, 0, 0, 1])) :]
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    text = ",".join(f"{space}{json.dumps(key)}{space}:{space}{value}" for key, value in chosen)
    return f"{{{text}}}{space}".encode(errors="surrogatepass")


@st.composite
def _damaged(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    body = draw(bodies)
    start = draw(st.integers(0, len(body)))
    end = min(len(body), start + draw(st.integers(0, 8)))
    return (
        body[:start] + draw(st.binary(max_size=4) | st.sampled_from([b"\\", b'"', b"\\ud800", b"}", b","])) + body[end:]
    )


def bodies() -> st.SearchStrategy[bytes]:
    """Generate bodies of all kinds: events, JSON, either with some bytes changed, the corpus, and noise."""
    known = st.sampled_from([case.body for case in CASES])
    whole = st.one_of(event_bodies(), json_values().map(json.dumps).map(str.encode), known)
    return st.one_of(event_bodies(), whole, _damaged(whole), st.binary(max_size=64))


PATHS = ("type", "value", "occurred_at", "id", "a", "a.b", "a.b.c", 'a."b c"', '"detail-type"', "type.a")
ATTRIBUTES = ("kind", "amount", "a.b")
LABELS = ("currency", "country", "tenant")


def mappings() -> st.SearchStrategy[EventMapping]:
    """Generate mappings: the usual ones, and paths that lead through each other or into an envelope."""
    fields = st.sampled_from([*PATHS, *(f"attribute:{name}" for name in ATTRIBUTES)])
    labels = st.lists(fields | st.just(""), max_size=len(LABELS))
    return st.builds(
        EventMapping,
        type_field=st.just("type") | fields,
        value_field=st.sampled_from(["value", "value", ""]) | fields,
        timestamp_field=st.just("occurred_at") | fields,
        id_field=st.sampled_from(["", "id"]) | fields,
        envelope=st.sampled_from(["auto", "auto", "none", "sns", "eventbridge", "cloudevents"]),
        labels=labels.map(lambda paths: tuple(zip(LABELS, paths, strict=False))),
        require_timestamp=st.booleans(),
    )


ODD = st.sampled_from(
    [
        None,
        True,
        0,
        10**30,
        "",
        "__a",
        "x" * 129,
        "a\n",
        "\ud800",
        "Notification",
        [],
        ["a"],
        {},
        {"a": 1},
        {"Value": 1},
    ]
).map(copy.deepcopy)  # `messages` puts values into it
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "type_field": st.sampled_from(["page_view", "purchase"]),
    "value_field": st.sampled_from([1.5, "2", -7, 1e15]),
    "timestamp_field": st.sampled_from(["2020-10-06 10:02:05", 1_601_978_525_123, "2020-10-06T12:02:05+02:00"]),
    "id_field": st.sampled_from(["o-1", 17, 1.0, "\u00e9"]),
    "labels": st.sampled_from(["EUR", 5, True, None, "", "__a", "x" * 129]),
}


class Message(NamedTuple):
    """A message as SQS delivers it, and the mapping to read it by."""

    mapping: EventMapping
    body: bytes
    attributes: dict[str, str]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Generate a mapping and a message that is made for it, but for a field or an envelope that is not."""
    mapping = draw(mappings())
    document: dict[str, Any] = draw(st.one_of(*[st.builds(dict)] * 4, _objects()))
    attributes: dict[str, str] = {}
    wanted = [(getattr(mapping, name), good) for name, good in GOOD.items() if name != "labels"]
    for field, good in [*wanted, *((path, GOOD["labels"]) for _, path in mapping.labels)]:
        value = draw(st.one_of(*[good] * 20, ODD, st.just(ABSENT)))
        if field.startswith("attribute:") and value is not ABSENT:
            attributes[field.removeprefix("attribute:")] = value if isinstance(value, str) else json.dumps(value)
        elif field and value is not ABSENT:
            _put(document, field, value)
    text = json.dumps(document)
    kinds = ["sns", "eventbridge", "cloudevents"]
    fitting = [mapping.envelope] if mapping.envelope in kinds else []
    for kind in draw(st.one_of(*[st.just(fitting)] * 3, st.lists(st.sampled_from(kinds), max_size=2))):
        text = _enveloped(draw, kind, text, attributes)
    body = text.encode()
    return Message(mapping, draw(st.one_of(*[st.just(body)] * 6, _damaged(st.just(body)))), attributes)


ABSENT = object()


def _put(document: dict[str, Any], path: str, value: object) -> None:
    *above, last = (key.strip('"') for key in re.findall(r'[^."]+|"[^"]*"', path))
    for key in above:
        below = document.get(key)
        document[key] = document = below if isinstance(below, dict) else {}
    document[last] = value


def _objects() -> st.SearchStrategy[dict[str, Any]]:
    """Generate objects of the keys of `PATHS`."""
    below = st.dictionaries(st.sampled_from(["a", "b", "c", "b c"]), ODD, max_size=3)
    keys = st.sampled_from(["type", "value", "a", "detail-type", "Records"])
    return st.dictionaries(keys, st.one_of(ODD, below, json_values()), max_size=3)


def _enveloped(draw: st.DrawFn, kind: str, text: str, attributes: dict[str, str]) -> str:
    def mostly(example: str) -> Any:  # noqa: ANN401 - whatever JSON can say
        return draw(st.one_of(*[st.just(example)] * 12, ODD))

    if kind == "sns":
        own: dict[str, Any] = {name: {"Type": "String", "Value": mostly(value)} for name, value in attributes.items()}
        wrapped = {
            "Type": draw(st.sampled_from(["Notification"] * 9 + ["SubscriptionConfirmation", 1])),
            "MessageId": mostly("m-1"),
            "TopicArn": "arn:aws:sns:us-east-2:111122223333:ExampleTopic1",
            "Message": draw(st.sampled_from([text] * 9 + ["Hello", 7])),
            "Timestamp": mostly("2020-10-06T10:02:05.123Z"),
            "MessageAttributes": draw(st.one_of(*[st.just(own)] * 12, ODD)),
        }
        if draw(st.booleans()):
            attributes.clear()
    elif kind == "eventbridge":
        time, detail = mostly("2020-10-06T10:02:05Z"), json.loads(text)
        wrapped = {"id": mostly("e-1"), "detail-type": mostly("order"), "time": time, "detail": detail}
    else:
        wrapped = {"specversion": "1.0", "source": mostly("/shop"), "id": mostly("c-1")}
        wrapped |= {"type": mostly("order"), "time": mostly("2020-10-06T10:02:05Z"), "data": json.loads(text)}
    for key in draw(st.one_of(*[st.just([])] * 4, st.lists(st.sampled_from(sorted(wrapped)), max_size=1))):
        del wrapped[key]
    return json.dumps(wrapped)
