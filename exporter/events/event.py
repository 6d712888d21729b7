"""What an event is: `parse` turns the body of a message into an `Event`, or raises `InvalidEvent`. Pure: no I/O.

Everything here is linear in the size of the body and bounded before it is converted, because the body is a stranger's.
"""

from __future__ import annotations

import decimal
import re
from datetime import datetime
from functools import lru_cache

import msgspec

from exporter.errors import InvalidEvent

NANO = 1_000_000_000
"""A value is kept as a whole number of 1e-9, so that sums are exact and depend on no order."""

MAX_BODY_BYTES = 1_048_576
"""SQS's own limit. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

MAX_VALUE = 10**15
MAX_TYPE_CHARACTERS = 128
MAX_AHEAD_SECONDS = 300
"""A timestamp further ahead than this is a wrong clock, not a time at which something occurred."""

REASONS = (
    "too_large",
    "invalid_json",
    "not_an_object",
    "missing_field",
    "invalid_type",
    "invalid_value",
    "invalid_timestamp",
)
"""Why a message is not an event, in the order in which they are looked for: the first one found is the reason."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event.

    `value_nano` is the value as a whole number of 1e-9, rounded half-even. `occurred_at_seconds` is Unix time, None
    where the message has no usable timestamp (it is counted all the same).
    """

    # A frozen dataclass takes six times as long to make, and there is one for every message.
    type: str
    value_nano: int
    occurred_at_seconds: float | None


def parse(body: bytes, *, now_seconds: float, require_timestamp: bool = False) -> Event:
    """Read the body of one message; raises nothing but `InvalidEvent`, with one of `REASONS`.

    Of a key that occurs twice the last one is read, as Python's `json` does. Objects and arrays nested deeper than
    the interpreter's recursion limit are `invalid_json`. Without `require_timestamp` an absent, unreadable or future
    `occurred_at` leaves the event without one.
    """
    if len(body) > MAX_BODY_BYTES:
        raise InvalidEvent("too_large")
    type_text, value_text, timestamp_text = _fields(body)
    if not type_text or not value_text:
        raise InvalidEvent("missing_field")
    if len(type_text) > _LONGEST_TYPE_BYTES:
        raise InvalidEvent("invalid_type")
    name = _type_name(type_text)
    nano = _short_value_nano(value_text) if len(value_text) <= _SHORT_BYTES else _value_nano(value_text)
    seconds = _unix_seconds(timestamp_text) if len(timestamp_text) <= _LONGEST_TIMESTAMP_BYTES else None
    if seconds is not None and seconds > now_seconds + MAX_AHEAD_SECONDS:
        seconds = None
    if seconds is None and require_timestamp:
        raise InvalidEvent("invalid_timestamp")
    return Event(name, nano, seconds)


_ABSENT = msgspec.Raw(b"")


class _Fields(msgspec.Struct):
    """The three keys as the JSON text that stands in the body: a number read as a float would no longer be exact."""

    type: msgspec.Raw = _ABSENT
    value: msgspec.Raw = _ABSENT
    occurred_at: msgspec.Raw = _ABSENT


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_anything = msgspec.json.Decoder(msgspec.Raw).decode
_decode_string = msgspec.json.Decoder(str).decode


def _fields(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the texts of `type`, `value` and `occurred_at`, empty where the key is absent."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        fields = _decode_object(body)
        return bytes(fields.type), bytes(fields.value), bytes(fields.occurred_at)
    except (UnicodeDecodeError, RecursionError):
        raise InvalidEvent("invalid_json") from None
    except msgspec.DecodeError:
        hidden = _hide_surrogates(body)
    try:
        fields = _decode_object(hidden)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidEvent("invalid_json") from None
    return _show_surrogates(fields.type), _show_surrogates(fields.value), _show_surrogates(fields.occurred_at)


def _decode_object(body: bytes) -> _Fields:
    try:
        return _decode_fields(body)
    except msgspec.ValidationError:
        _decode_anything(body)  # it starts as another kind of value; it is JSON only if the rest of it is, too
        raise InvalidEvent("not_an_object") from None


_MARK = "\ufdd0".encode()  # a noncharacter: hardly anybody writes it


def _hide_surrogates(body: bytes) -> bytes:
    r"""Turn the escape of a surrogate, such as \ud800, into a mark and the escape of an ordinary character.

    The grammar of JSON allows half a pair (RFC 8259, section 8.2) and other producers write it, but msgspec refuses it
    even in a key that nobody reads. Escaped backslashes are spelled out first, so that each backslash begins an
    escape; a mark that is in the body gets a space, which no mark before an escape has.
    """
    unambiguous = body.replace(rb"\\", rb"\u005c").replace(_MARK, _MARK + b" ")
    return unambiguous.replace(rb"\ud", _MARK + rb"\u0").replace(rb"\uD", _MARK + rb"\u0")


def _show_surrogates(text: msgspec.Raw) -> bytes:
    return bytes(text).replace(_MARK + rb"\u0", rb"\ud").replace(_MARK + b" ", _MARK)


# The caches below hold what events have in common: few types, the same second, the same prices. Their keys are short,
# whatever arrives, and what they hold together stays below 8 MiB.

_LONGEST_TYPE_BYTES = 2 + MAX_TYPE_CHARACTERS * len(r"\ud83d\uded2")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@lru_cache(maxsize=1024)
def _type_name(text: bytes) -> str:
    try:
        name = _decode_string(text)
    except msgspec.DecodeError:
        raise InvalidEvent("invalid_type") from None
    if not 1 <= len(name) <= MAX_TYPE_CHARACTERS or name.startswith("__") or _CONTROL_CHARACTER.search(name):
        raise InvalidEvent("invalid_type")
    return name


_SHORT_BYTES = 32
# https://www.rfc-editor.org/rfc/rfc8259#section-6, without backtracking: a million digits and a letter took 60 ms.
# Not possessive where it is a group: Python before 3.11.5 then takes what it should not ("1.e1").
# https://github.com/python/cpython/issues/106052
_NUMBER = re.compile(r"(-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?)(?:[eE]([+-]?+)0*+([0-9]*+)(?<=[0-9]))?")
_LONGEST_EXPONENT = 7
_EXACT = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)
_ONE_NANO = decimal.Decimal("1e-9")
_MAX = decimal.Decimal(MAX_VALUE)


def _value_nano(text: bytes) -> int:
    """Return the number in JSON `text`, bare or in a string, in 1e-9, rounded once, from its exact decimal value."""
    try:
        number = _NUMBER.fullmatch(_decode_string(text) if text.startswith(b'"') else text.decode())
    except msgspec.DecodeError:
        raise InvalidEvent("invalid_value") from None
    if number is None:
        raise InvalidEvent("invalid_value")
    mantissa, sign, exponent = number.groups(default="")
    if len(exponent) > _LONGEST_EXPONENT:
        # Decimal refuses exponents of 19 digits; no body has the digits to make up for one of 7.
        exponent = "9" * _LONGEST_EXPONENT
    value = decimal.Decimal(f"{mantissa}e{sign}{exponent or 0}")
    if not -_MAX <= value <= _MAX:
        raise InvalidEvent("invalid_value")
    return int(_EXACT.scaleb(_EXACT.quantize(value, _ONE_NANO), 9))


_short_value_nano = lru_cache(maxsize=16_384)(_value_nano)

_TIMESTAMP = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"|[0-9]{8}T(?:[01][0-9]|2[0-3])[0-9]{2}(?:[0-9]{2}(?:[.,][0-9]{1,9})?)?)"
    r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?",
)
_LONGEST_TIMESTAMP_BYTES = 2 + len("2020-10-06T10:02:05.123456789+00:00") * len(r"\u0032")


@lru_cache(maxsize=4096)
def _unix_seconds(text: bytes) -> float | None:
    """Return the Unix time of a timestamp, None where it is not a date with a time of day (ISO 8601; UTC if naive).

    `fromisoformat` alone would take a date without a time and any separator, and takes more with each Python.
    """
    try:
        timestamp = _decode_string(text).upper()
        match = _TIMESTAMP.fullmatch(timestamp)
        if match is None:
            return None
        return datetime.fromisoformat(timestamp if match[1] else timestamp + "Z").timestamp()
    except (ValueError, msgspec.DecodeError):
        return None
