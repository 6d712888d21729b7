"""Which format and which encoding a request's headers ask for."""

from __future__ import annotations

import pytest

from exporter.web.negotiation import TEXT, Format, Kind, accepts_gzip, choose_format

OPENMETRICS = Format(Kind.OPENMETRICS)
TEXT_1 = Format(Kind.TEXT_1, "underscores")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/*", TEXT),
        ("image/png", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0", Format(Kind.OPENMETRICS, "underscores")),
        ("application/openmetrics-text;escaping=dots;version=1.0.0", Format(Kind.OPENMETRICS, "dots")),
        ("application/openmetrics-text;escaping=made-up;version=1.0.0", Format(Kind.OPENMETRICS, "underscores")),
        ("text/plain;version=1.0.0", TEXT_1),
        ('text/plain; charset=utf-8; version="1.0.0"', TEXT_1),
        ("TEXT/PLAIN;VERSION=1.0.0", TEXT_1),
    ],
)
def test_one_offer_is_taken_however_it_is_written(accept: str, chosen: Format) -> None:
    """Parameters come in any order, quoted or not; what nobody can give becomes plain text."""
    assert choose_format(accept) == chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;version=0.0.4;q=0.9", TEXT),
        ("application/openmetrics-text;q=0.9;version=1.0.0,text/plain;version=0.0.4;q=0.1", OPENMETRICS.kind),
        ("text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0", TEXT),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4", OPENMETRICS.kind),
        ("application/openmetrics-text;version=1.0.0;q=0,text/plain;version=0.0.4;q=0.1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0", TEXT),
        ("application/*;q=0.9,application/openmetrics-text;q=0,*/*;q=0.1", TEXT),
        ("text/plain;version=0.0.4;q=0.3,text/plain;version=1.0.0;q=0.4", TEXT_1.kind),
        ("application/openmetrics-text;version=0.0.1;q=0.9,text/plain;version=0.0.4;q=0.5", TEXT),
        ("application/openmetrics-text;q=wrong,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=1.5,text/plain;q=0.1", TEXT),
    ],
)
def test_the_highest_q_wins_and_then_the_first(accept: str, chosen: Format | Kind) -> None:
    """A q of 0 refuses, a q that is none counts as 0, and the more specific of two offers for a format holds."""
    found = choose_format(accept)
    assert chosen in (found, found.kind)


def test_the_content_type_names_the_escaping_only_to_who_knows_it() -> None:
    """Older clients fail over a parameter that they never heard of."""
    assert OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert TEXT_1.content_type == "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"


@pytest.mark.parametrize(
    "accept", ["," * 100_000, "text/plain," * 10_000, "a/b;" * 10_000, "q=1;q=2,;;,=", "\x00é/☃;q=☃"]
)
def test_headers_made_up_by_strangers_mean_plain_text(accept: str) -> None:
    """Nothing in a header makes the negotiation fail."""
    assert choose_format(accept) == TEXT


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=1.0", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_gzip_is_used_only_where_it_is_accepted(header: str, accepted: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """A q of 0 refuses it, by its name or by the star."""
    assert accepts_gzip(header) is accepted
