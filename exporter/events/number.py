"""Reads numbers in JSON's grammar exactly, as whole numbers of 1e-9, of limited length and never as a float."""

from __future__ import annotations

import decimal
import re
from functools import lru_cache

import msgspec

NANO = 1_000_000_000
"""A value is kept as a whole number of 1e-9, so that sums are exact and depend on no order."""

MAX_VALUE = 10**15

# https://www.rfc-editor.org/rfc/rfc8259#section-6, without backtracking: a million digits and a letter took 60 ms.
# Not possessive where it is a group: Python before 3.11.5 then takes what it should not ("1.e1").
# https://github.com/python/cpython/issues/106052
_NUMBER = re.compile(r"(-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?)(?:[eE]([+-]?+)0*+([0-9]*+)(?<=[0-9]))?")
_LONGEST_EXPONENT = 7
_EXACT = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)
_ONE_NANO = decimal.Decimal("1e-9")
_MAX = decimal.Decimal(MAX_VALUE)
SHORT_BYTES = 32

_decode_string = msgspec.json.Decoder(str).decode


def decimal_of(text: str) -> decimal.Decimal | None:
    """Return the exact value of a number in JSON's grammar, None for any other text."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return None
    mantissa, sign, exponent = number.groups(default="")
    if len(exponent) > _LONGEST_EXPONENT:
        # Decimal refuses exponents of 19 digits; no body has the digits to make up for one of 7.
        exponent = "9" * _LONGEST_EXPONENT
    return decimal.Decimal(f"{mantissa}e{sign}{exponent or 0}")


def value_nano(text: bytes) -> int | None:
    """Return the number in JSON `text`, bare or in a string, in 1e-9, rounded half-even once from its exact value.

    None where it is not a number of at most `MAX_VALUE` in size.
    """
    try:
        value = decimal_of(_decode_string(text) if text.startswith(b'"') else text.decode())
    except msgspec.DecodeError:
        return None
    if value is None or not -_MAX <= value <= _MAX:
        return None
    return int(_EXACT.scaleb(_EXACT.quantize(value, _ONE_NANO), 9))


short_value_nano = lru_cache(maxsize=16_384)(value_nano)
"""The same for texts of up to `SHORT_BYTES`: prices come again and again."""
