"""Parameters of a statement in PostgreSQL's formats: arrays, of which those of ids are binary, as that costs least."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UUID_OID = 2950
_array_header = Struct(">5i").pack
_EMPTY_ARRAY = Struct(">3i").pack(0, 0, _UUID_OID)
_ID_LENGTH = Struct(">i").pack(16)
_NULL = Struct(">i").pack(-1)


def uuids(ids: Sequence[bytes | None]) -> bytes:
    """Return a uuid[] in binary, as array_send of PostgreSQL writes it: dimensions, nulls, type, length, from where."""
    if not ids:
        return _EMPTY_ARRAY
    header = _array_header(1, 1, _UUID_OID, len(ids), 1)
    return header + b"".join([_NULL if id_ is None else _ID_LENGTH + id_ for id_ in ids])


def numbers(values: Iterable[float | None]) -> str:
    """Return an array of numbers as text, whole ones of any size exactly."""
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    """Return a text[], quoted."""
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def number_list(value: bytes | None) -> list[int]:
    """Read an array of whole numbers, as the server writes it."""
    return [int(number) for number in value[1:-1].split(b",")] if value and value != b"{}" else []


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'
