"""Which message ids are remembered, and the commit that remembered each last, in about 30 bytes an id.

`benchmarks/ids.py` measures this against the alternatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.ledger.message_ids import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENTRY_BYTES = ID_BYTES + 4
_FEW_BUCKETS, _BUCKETS = 1 << 8, 1 << 16
_FEW_IDS = 8 * _FEW_BUCKETS
"""Up to so many ids a queue that is nearly idle needs no half megabyte."""
_STAMP_MASK = (1 << 32) - 1


class IdIndex:
    """A map from 16-byte ids to the sequence number of the commit that remembered them last.

    Each bucket is one `bytes`: ids with the low 32 bits of the number behind them. Python's own hash chooses the
    bucket, because the ids of some servers begin with the time or a counter.
    """

    def __init__(self) -> None:
        self._buckets = [b""] * _FEW_BUCKETS
        self._mask = _FEW_BUCKETS - 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def known(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of the ids that are remembered."""
        buckets, mask = self._buckets, self._mask
        likely = [i for i in ids if i in buckets[hash(i) & mask]]
        return {i for i in likely if _position(buckets[hash(i) & mask], i) >= 0}

    def add(self, ids: Sequence[bytes], seq: int) -> None:
        """Remember ids that are not remembered yet, as of commit `seq`."""
        buckets, mask, stamp = self._buckets, self._mask, _stamp(seq)
        for i in ids:
            at = hash(i) & mask
            buckets[at] = buckets[at] + (i + stamp)
        self._count += len(ids)
        self._spread()

    def renew(self, ids: Iterable[bytes], seq: int) -> None:
        """Remember ids as of commit `seq`, whether they are remembered already or not."""
        buckets, mask, stamp = self._buckets, self._mask, _stamp(seq)
        for i in ids:
            at = hash(i) & mask
            bucket = buckets[at]
            position = _position(bucket, i)
            if position >= 0:
                buckets[at] = bucket[: position + ID_BYTES] + stamp + bucket[position + _ENTRY_BYTES :]
            else:
                buckets[at] = bucket + (i + stamp)
                self._count += 1
        self._spread()

    def remembered_by(self, ids: Iterable[bytes], seq: int) -> list[bytes]:
        """Those of the ids that were remembered last by commit `seq`: not renewed since, nor removed."""
        buckets, mask, stamp = self._buckets, self._mask, _stamp(seq)
        return [
            i
            for i in ids
            if (position := buckets[hash(i) & mask].find(i + stamp)) % _ENTRY_BYTES == 0
            or (position > 0 and _position(buckets[hash(i) & mask], i + stamp) > 0)
        ]

    def remove(self, ids: Iterable[bytes]) -> None:
        """Forget ids; an unknown one is skipped."""
        buckets, mask, removed = self._buckets, self._mask, 0
        for i in ids:
            at = hash(i) & mask
            bucket = buckets[at]
            position = bucket.find(i)
            if position % _ENTRY_BYTES:
                position = _position(bucket, i)
            if position >= 0:
                buckets[at] = bucket[:position] + bucket[position + _ENTRY_BYTES :]
                removed += 1
        self._count -= removed

    def _spread(self) -> None:
        if self._count <= _FEW_IDS or self._mask == _BUCKETS - 1:
            return
        buckets = [b""] * _BUCKETS
        self._mask = _BUCKETS - 1
        for bucket in self._buckets:
            for start in range(0, len(bucket), _ENTRY_BYTES):
                at = hash(bucket[start : start + ID_BYTES]) & self._mask
                buckets[at] = buckets[at] + bucket[start : start + _ENTRY_BYTES]
        self._buckets = buckets


def _stamp(seq: int) -> bytes:
    return (seq & _STAMP_MASK).to_bytes(4, "big")


def _position(bucket: bytes, needle: bytes) -> int:
    """Where the entry that begins with `needle` begins; -1: nowhere. A match across two entries is none."""
    position = bucket.find(needle)
    while position > 0 and position % _ENTRY_BYTES:
        position = bucket.find(needle, position + 1)
    return position
