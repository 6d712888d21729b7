"""When an event occurred: `YYYY-MM-DD HH:MM:SS`, ISO 8601 with any offset, or Unix time as a number."""

from __future__ import annotations

import decimal
import re
from datetime import datetime
from functools import lru_cache

import msgspec

from exporter.events.number import decimal_of

_TIMESTAMP = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"|[0-9]{8}T(?:[01][0-9]|2[0-3])[0-9]{2}(?:[0-9]{2}(?:[.,][0-9]{1,9})?)?)"
    r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?",
)
LONGEST_BYTES = 2 + len("2020-10-06T10:02:05.123456789+00:00") * len(r"\u0032")

_BELOW = ((decimal.Decimal("1e11"), 0), (decimal.Decimal("1e14"), -3), (decimal.Decimal("1e17"), -6))
"""Below which size a Unix time is in seconds, milliseconds or microseconds, and the power of ten of that unit.

Seconds reach the year 5138, and a number of the next unit is that large from 1973 on.
"""
_NANOSECONDS = -9
_TOO_LARGE = decimal.Decimal("1e30")
_EXACT = decimal.Context(prec=LONGEST_BYTES)
_FIRST_SECOND = -62_135_683_200.0
"""A day before 0001-01-01: no date says an earlier time, whatever its offset."""

_decode_string = msgspec.json.Decoder(str).decode


@lru_cache(maxsize=4096)
def unix_seconds(text: bytes) -> float | None:
    """Return the Unix time of a timestamp in JSON `text` of up to `LONGEST_BYTES`, None where it is not one.

    A string is a date with a time of day, UTC without an offset. A number is Unix time: of its size below 1e11 in
    seconds, below 1e14 in milliseconds, below 1e17 in microseconds, else in nanoseconds.
    """
    return _of_string(text) if text.startswith(b'"') else _of_number(text)


def bare_number(text: bytes) -> bytes:
    """Return the number in a JSON string without its quotes, any other text as it is.

    A message attribute is always a string, also where it holds a Unix time.
    """
    inner = text[1:-1]
    is_number = text.startswith(b'"') and len(text) <= LONGEST_BYTES and decimal_of(inner.decode()) is not None
    return inner if is_number else text


def _of_string(text: bytes) -> float | None:
    """Return what `fromisoformat` says; alone it would take a date without a time, and more with each Python."""
    try:
        timestamp = _decode_string(text).upper()
        match = _TIMESTAMP.fullmatch(timestamp)
        if match is None:
            return None
        return datetime.fromisoformat(timestamp if match[1] else timestamp + "Z").timestamp()
    except (ValueError, msgspec.DecodeError):
        return None


def _of_number(text: bytes) -> float | None:
    number = decimal_of(text.decode())
    if number is None:
        return None
    size = number.copy_abs()
    if size >= _TOO_LARGE:
        return None
    power = next((power for limit, power in _BELOW if size < limit), _NANOSECONDS)
    seconds = float(_EXACT.scaleb(number, power) if power else number)
    return seconds if seconds >= _FIRST_SECOND else None
