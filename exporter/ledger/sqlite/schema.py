"""The ledger's file: its tables, how one is made, and what each failure of SQLite and the file system means here.

Every row carries a CRC-32 of its content, and the queue's row the sum of those of all its other rows, so that neither a
flipped bit nor a lost, old or doubled row can pass for a number.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import struct
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from exporter.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1
APPLICATION_ID = 0x53514545
PAGE_BYTES = 4096

TABLES = {
    "ledger": """CREATE TABLE ledger (
  id INTEGER PRIMARY KEY, instance_id TEXT NOT NULL, created_seconds REAL NOT NULL, checksum INTEGER NOT NULL
)""",
    "queues": """CREATE TABLE queues (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, arn TEXT, seq INTEGER NOT NULL, clock_seconds REAL NOT NULL,
  paused_seconds REAL NOT NULL, received TEXT NOT NULL, duplicate TEXT NOT NULL, timestamps_unreadable TEXT NOT NULL,
  forgotten_early TEXT NOT NULL, rows_checksum INTEGER NOT NULL, checksum INTEGER NOT NULL
)""",
    "types": """CREATE TABLE types (
  queue_id INTEGER NOT NULL, type TEXT NOT NULL, count TEXT NOT NULL, value_nano TEXT NOT NULL,
  negative_nano TEXT NOT NULL, last_occurred_seconds REAL, created_seconds REAL NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (queue_id, type)
) WITHOUT ROWID""",
    "reasons": """CREATE TABLE reasons (
  queue_id INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL, count TEXT NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (queue_id, kind, reason)
) WITHOUT ROWID""",
    "commits": """CREATE TABLE commits (
  seq INTEGER PRIMARY KEY, queue_id INTEGER NOT NULL, clock_seconds REAL NOT NULL, paused_seconds REAL NOT NULL,
  committed_at_seconds REAL NOT NULL, settled BLOB NOT NULL, ids BLOB NOT NULL, renewed BLOB NOT NULL,
  carried BLOB NOT NULL, checksum INTEGER NOT NULL
)""",
}

_REASONS = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_NOMEM: "io_error",
    sqlite3.SQLITE_CANTOPEN: "unreadable",
    sqlite3.SQLITE_PERM: "unreadable",
    sqlite3.SQLITE_AUTH: "unreadable",
}

_REASONS_OF_THE_SYSTEM = {
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
    errno.EROFS: "read_only",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.ENOENT: "unreadable",
    errno.ENOTDIR: "unreadable",
    errno.EISDIR: "unreadable",
    errno.ELOOP: "unreadable",
    errno.ENAMETOOLONG: "unreadable",
}

_WITHOUT_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_SENTENCES = {
    "corrupt": "the ledger {path} is damaged ({detail}): restore it from a backup, or move it away to count from zero",
    "full": "the ledger {path} can't grow ({detail}): make room on its volume",
    "io_error": "the ledger {path} can't be read or written ({detail}): check its volume",
    "lost_commits": "the ledger {path} has lost commits ({detail}): put its write-ahead log or a newer backup back, or "
    "remove {path}.mark to go on without them: what they counted is counted again only where SQS still has it",
    "locked": "the ledger {path} is used by another process: stop that one, or choose another --ledger.path",
    "newer_schema": "the ledger {path} was written by a newer version ({detail}): run that version",
    "other_queue": "the ledger {path} {detail}: choose another --ledger.path",
    "read_only": "the ledger {path} is read-only ({detail}): make it and its directory writable for this user",
    "unreadable": "the ledger {path} can't be opened ({detail}): set --ledger.path to a file in a writable directory",
}


def failure(path: str, reason: str, detail: str) -> LedgerError:
    """Make the LedgerError of one reason: a sentence with the path and the way out."""
    return LedgerError(reason, _SENTENCES[reason].format(path=path, detail=detail))


def sqlite_failure(path: str, error: sqlite3.Error) -> LedgerError:
    """Say what an error of SQLite means. The statements are fixed: an unknown one is taken for damage."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return failure(path, "io_error", str(error))
    return failure(path, _REASONS.get(code & 0xFF, "corrupt"), str(error))


def os_failure(path: str, error: OSError) -> LedgerError:
    """Say what an error of the file system means: the volume's, unless it is about the path itself."""
    reason = _REASONS_OF_THE_SYSTEM.get(error.errno or 0, "io_error")
    return failure(path, reason, error.strerror or str(error))


@contextlib.contextmanager
def failures_of(path: str) -> Iterator[None]:
    """Turn what SQLite, the file system and unreadable rows raise into a LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        raise sqlite_failure(path, error) from error
    except MemoryError as error:
        raise failure(path, "io_error", "out of memory") from error
    except OSError as error:
        raise os_failure(path, error) from error
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise failure(path, "corrupt", "a row does not hold what was written") from error


def row_checksum(*fields: object) -> int:
    """CRC-32 of a row's fields; blobs are given as their own checksums."""
    return crc32("\0".join(map(str, fields)).encode())


def exists(path: str) -> bool:
    """Whether there is something. Raises OSError where that can't be found out; `Path.exists` may take it for no."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def create(path: str, now: float) -> bool:
    """Make a new ledger at `path` unless there is a file. It appears whole or not at all, even if the process dies."""
    if exists(path):
        return False
    if exists(f"{path}-wal"):
        raise failure(path, "corrupt", "it is missing, but its write-ahead log is there")
    handle, draft = tempfile.mkstemp(prefix=f".{Path(path).name}.", suffix=".new", dir=Path(path).parent)
    try:
        _lay_out(draft, now)
        os.fsync(handle)
        return _publish(draft, path)
    finally:
        os.close(handle)
        Path(draft).unlink(missing_ok=True)


def _lay_out(draft: str, now: float) -> None:
    instance_id = str(uuid.uuid4())
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        for statement in TABLES.values():
            connection.execute(statement)
        checksum = row_checksum(instance_id, now)
        connection.execute("INSERT INTO ledger VALUES (1, ?, ?, ?)", (instance_id, now, checksum))


def _publish(draft: str, path: str) -> bool:
    try:
        os.link(draft, path)  # unlike a rename it never replaces the ledger of a process that was quicker
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_HARD_LINKS:
            raise
        Path(draft).rename(path)
    directory = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True
