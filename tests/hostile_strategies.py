"""Hypothesis strategies for bodies that a stranger may send; see `hostile` for the corpus."""

from __future__ import annotations

import json
from typing import Any

from hostile import CASES
from hypothesis import strategies as st


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
