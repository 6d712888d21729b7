"""Whether committed transactions would be lost from a write-ahead log.

After a crash SQLite takes the log up to the first frame whose checksum is wrong and drops the rest without a word, as
it can't tell damage from a transaction that was being written. With one fsync a transaction only the last can be torn:
whatever follows a commit after a wrong frame was once safe on disk, and its messages may be deleted already.
https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from struct import Struct, iter_unpack, unpack_from

from exporter.ledger.sqlite.schema import PAGE_BYTES

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682
_WORD_MASK = (1 << 32) - 1
_pair = Struct(">2I")


def lost_transactions(path: str) -> bool:
    """Whether the log at `path` holds whole transactions behind a damaged frame. A log that is not there is whole."""
    try:
        log = Path(path).read_bytes()
    except FileNotFoundError:
        return False
    if len(log) < _HEADER_BYTES:
        return False
    if not any(log[:_HEADER_BYTES]):
        return _commits_without_header(log)
    magic, _, page_bytes = unpack_from(">3I", log)
    order = ">" if magic & 1 else "<"
    sums = _checksum(log[: _HEADER_BYTES - 8], order, (0, 0))
    if magic & ~1 != _MAGIC or _pair.pack(*sums) != log[_HEADER_BYTES - 8 : _HEADER_BYTES]:
        return True
    salts = log[16:24]
    frame_bytes = _FRAME_HEADER_BYTES + page_bytes
    damaged = committed = False
    for start in range(_HEADER_BYTES, len(log) - frame_bytes + 1, frame_bytes):
        header = log[start : start + _FRAME_HEADER_BYTES]
        if not damaged:
            page = log[start + _FRAME_HEADER_BYTES : start + frame_bytes]
            sums = _checksum(page, order, _checksum(header[:8], order, sums))
            damaged = header[8:16] != salts or _pair.pack(*sums) != header[16:]
        if damaged and header[8:16] == salts:
            if committed:
                return True
            committed = any(header[4:8])
    return False


def _commits_without_header(log: bytes) -> bool:
    """Whether a log without a header holds more than the transaction that was being written when it was begun.

    The header is safe on disk with the first transaction: with a second of the same salts behind it, it was damaged.
    """
    frame_bytes = _FRAME_HEADER_BYTES + PAGE_BYTES
    frames = (log[start : start + _FRAME_HEADER_BYTES] for start in range(_HEADER_BYTES, len(log), frame_bytes))
    commits = Counter(frame[8:16] for frame in frames if any(frame[4:8]) and any(frame[8:16]))
    return any(number > 1 for number in commits.values())


def _checksum(words: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Go on with SQLite's checksum, https://www.sqlite.org/fileformat2.html#checksum_algorithm ."""
    first, second = sums
    for even, odd in iter_unpack(f"{order}2I", words):
        first = (first + even + second) & _WORD_MASK
        second = (second + odd + first) & _WORD_MASK
    return first, second
