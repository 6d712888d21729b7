"""Message ids as the ledger remembers them: 16 bytes each."""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_BYTES = 16
_id = Struct(f"{ID_BYTES}s")
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_is_uuid = re.compile(_UUID).fullmatch
_are_uuids = re.compile(f"{_UUID}(?:\n{_UUID})*").fullmatch


def remembered_ids(message_ids: Sequence[str]) -> Sequence[bytes]:
    """Turn MessageIds into the 16 bytes each is remembered by: the UUID's, or a BLAKE2b digest where it is none.

    Only the canonical lower-case form is taken for a UUID, so that no two ids become one.
    """
    lines = "\n".join(message_ids)
    if _are_uuids(lines):
        ids = split(bytes.fromhex(lines.replace("-", "")))
        if len(ids) == len(message_ids):
            return ids
    return [
        bytes.fromhex(message_id.replace("-", ""))
        if _is_uuid(message_id)
        else blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for message_id in message_ids
    ]


def split(ids: bytes) -> tuple[bytes, ...]:
    """Cut concatenated ids apart; raises `struct.error` where the length is not a multiple of theirs."""
    return tuple(chain.from_iterable(_id.iter_unpack(ids)))
