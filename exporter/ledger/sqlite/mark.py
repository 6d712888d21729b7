"""The mark: a small file beside the ledger that names its last commit, so that a ledger that lost some is recognised.

SQLite takes a write-ahead log that was removed or zeroed for one that was never written. The mark is written after each
commit and not synced, so it is never ahead of what was committed: exact after a kill, at most behind after a power cut.
"""

from __future__ import annotations

import contextlib
import os
import stat
from struct import Struct
from zlib import crc32

SUFFIX = ".mark"
"""Not `-mark`: whoever removes `ledger.db-*` means SQLite's own files."""

_record = Struct(">36sq")
_checksum = Struct(">I")


class Mark:
    """An open mark. A mark that can't be read or written is none: it is a safeguard, and stops no commit."""

    def __init__(self, path: str, instance_id: str) -> None:
        self._instance_id = instance_id.encode()
        self._descriptor = _open(path + SUFFIX)
        self.committed = self._read()
        """The sequence number of the last commit that is known; 0 where the mark is new, torn or another ledger's."""

    def move(self, seq: int) -> None:
        """Write that commit `seq` is on disk."""
        if self._descriptor is None:
            return
        record = _record.pack(self._instance_id, seq)
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, record + _checksum.pack(crc32(record)), 0)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> int:
        if self._descriptor is None:
            return 0
        try:
            content = os.pread(self._descriptor, _record.size + _checksum.size, 0)
        except OSError:
            return 0
        record = content[: _record.size]
        if content[_record.size :] != _checksum.pack(crc32(record)):
            return 0
        instance_id, seq = _record.unpack(record)
        return int(seq) if instance_id == self._instance_id else 0


def _open(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None
