"""Message ids as the ledger remembers them: 16 bytes each."""

from __future__ import annotations

import re
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_BYTES = 16
_is_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_UUID_CHARACTERS = 36
_HYPHENS_AT = (8, 13, 18, 23)


def remembered_ids(message_ids: Sequence[str]) -> Sequence[bytes]:
    """Turn MessageIds into the 16 bytes each is remembered by: the UUID's, or a BLAKE2b digest where it is none.

    Only the canonical lower-case form is taken for a UUID, so that no two ids become one.
    """
    ids = _bytes_of_uuids(message_ids)
    if ids is not None:
        return split(ids)
    return [
        bytes.fromhex(message_id.replace("-", ""))
        if _is_uuid(message_id)
        else blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for message_id in message_ids
    ]


def split(ids: bytes) -> tuple[bytes, ...]:
    """Cut concatenated ids apart; raises `struct.error` where the length is not a multiple of theirs."""
    return Struct(f"{ID_BYTES}s" * (len(ids) // ID_BYTES)).unpack(ids)


def _bytes_of_uuids(message_ids: Sequence[str]) -> bytes | None:
    """Return the bytes of all ids at once, None unless each is a UUID.

    The ids are joined by line breaks: where each break and each hyphen is in its place and all the rest are digits, no
    id is longer or shorter than a UUID. A regular expression would take as long as all else that is done here.
    """
    count = len(message_ids)
    lines = "\n".join(message_ids)
    digits = lines.replace("-", "").replace("\n", "")
    try:
        ids = bytes.fromhex(digits)
    except ValueError:
        return None
    are_uuids = (
        len(ids) == count * ID_BYTES
        and len(lines) == count * (_UUID_CHARACTERS + 1) - 1
        and lines[_UUID_CHARACTERS :: _UUID_CHARACTERS + 1] == "\n" * (count - 1)
        and all(lines[at :: _UUID_CHARACTERS + 1] == "-" * count for at in _HYPHENS_AT)
        and ids.hex() == digits  # `fromhex` also takes upper case and spaces
    )
    return ids if are_uuids else None
