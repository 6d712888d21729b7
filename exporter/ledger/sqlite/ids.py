"""Which message ids are remembered, and the commit that remembered each last, in about 30 bytes an id.

`benchmarks/ids.py` measures this against the alternatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.ledger.message_ids import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENTRY_BYTES = ID_BYTES + 4
_BUCKETS = 1 << 16
_MASK = _BUCKETS - 1
_STAMP_MASK = (1 << 32) - 1


class IdIndex:
    """A map from 16-byte ids to the sequence number of the commit that remembered them last.

    Each bucket is one `bytes`: ids with the low 32 bits of the number behind them. Python's own hash chooses the
    bucket, because the ids of some servers begin with the time or a counter.
    """

    def __init__(self) -> None:
        self._buckets = [b""] * _BUCKETS
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def known(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of the ids that are remembered."""
        buckets = self._buckets
        likely = [i for i in ids if i in buckets[hash(i) & _MASK]]
        return {i for i in likely if _position(buckets[hash(i) & _MASK], i) >= 0}

    def add(self, ids: Sequence[bytes], seq: int) -> None:
        """Remember ids that are not remembered yet, as of commit `seq`."""
        buckets, stamp = self._buckets, _stamp(seq)
        for i in ids:
            at = hash(i) & _MASK
            buckets[at] = buckets[at] + (i + stamp)
        self._count += len(ids)

    def renew(self, ids: Iterable[bytes], seq: int) -> None:
        """Remember ids as of commit `seq`, whether they are remembered already or not."""
        buckets, stamp = self._buckets, _stamp(seq)
        for i in ids:
            at = hash(i) & _MASK
            bucket = buckets[at]
            position = _position(bucket, i)
            if position >= 0:
                buckets[at] = bucket[: position + ID_BYTES] + stamp + bucket[position + _ENTRY_BYTES :]
            else:
                buckets[at] = bucket + (i + stamp)
                self._count += 1

    def remembered_by(self, ids: Iterable[bytes], seq: int) -> list[bytes]:
        """Those of the ids that were remembered last by commit `seq`: not renewed since, nor removed."""
        buckets, stamp = self._buckets, _stamp(seq)
        return [
            i
            for i in ids
            if (position := buckets[hash(i) & _MASK].find(i + stamp)) % _ENTRY_BYTES == 0
            or (position > 0 and _position(buckets[hash(i) & _MASK], i + stamp) > 0)
        ]

    def remove(self, ids: Iterable[bytes]) -> None:
        """Forget ids; an unknown one is skipped."""
        buckets, removed = self._buckets, 0
        for i in ids:
            at = hash(i) & _MASK
            bucket = buckets[at]
            position = bucket.find(i)
            if position % _ENTRY_BYTES:
                position = _position(bucket, i)
            if position >= 0:
                buckets[at] = bucket[:position] + bucket[position + _ENTRY_BYTES :]
                removed += 1
        self._count -= removed


def _stamp(seq: int) -> bytes:
    return (seq & _STAMP_MASK).to_bytes(4, "big")


def _position(bucket: bytes, needle: bytes) -> int:
    """Where the entry that begins with `needle` begins; -1: nowhere. A match across two entries is none."""
    position = bucket.find(needle)
    while position > 0 and position % _ENTRY_BYTES:
        position = bucket.find(needle, position + 1)
    return position
