"""The ledger's tables, and what each failure of SQLite and the file system means here.

Every row carries a CRC-32 of its content, and the queue's row the sum of those of all its other rows, so that neither a
flipped bit nor a lost, old or doubled row can pass for a number.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import struct
from typing import TYPE_CHECKING
from zlib import crc32

from exporter.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 2
APPLICATION_ID = 0x53514545
PAGE_BYTES = 4096

TABLES = {
    "ledger": """CREATE TABLE ledger (
  id INTEGER PRIMARY KEY, instance_id TEXT NOT NULL, name TEXT NOT NULL, created_seconds REAL NOT NULL,
  checksum INTEGER NOT NULL
)""",
    "queues": """CREATE TABLE queues (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, arn TEXT, seq INTEGER NOT NULL, clock_seconds REAL NOT NULL,
  paused_seconds REAL NOT NULL, received TEXT NOT NULL, duplicate TEXT NOT NULL, timestamps_unreadable TEXT NOT NULL,
  forgotten_early TEXT NOT NULL, without_event_id TEXT NOT NULL, events_forgotten TEXT NOT NULL,
  rows_checksum INTEGER NOT NULL, checksum INTEGER NOT NULL
)""",
    "series": """CREATE TABLE series (
  queue_id INTEGER NOT NULL, type TEXT NOT NULL, labels TEXT NOT NULL, count TEXT NOT NULL, value_nano TEXT NOT NULL,
  negative_nano TEXT NOT NULL, last_occurred_seconds REAL, created_seconds REAL NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (queue_id, type, labels)
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
    "event_ids": """CREATE TABLE event_ids (
  seq INTEGER PRIMARY KEY, queue_id INTEGER NOT NULL, clock_seconds REAL NOT NULL, paused_seconds REAL NOT NULL,
  committed_at_seconds REAL NOT NULL, settled BLOB NOT NULL, links BLOB NOT NULL, carried BLOB NOT NULL,
  checksum INTEGER NOT NULL
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

_SENTENCES = {
    "corrupt": "the ledger {path} is damaged ({detail}): restore it from a backup, or move it away to count from zero",
    "full": "the ledger {path} can't grow ({detail}): free space on its volume",
    "io_error": "the ledger {path} can't be read or written ({detail}): check its volume",
    "lost_commits": "the ledger {path} has lost commits ({detail}): put its write-ahead log or a newer backup back, or "
    "remove {path}.mark to go on without them: what they counted is counted again only where SQS still has it",
    "locked": "the ledger {path} is used by another process: stop that one, or choose another --ledger.path",
    "newer_schema": "the ledger {path} was written by a newer version ({detail}): run that version",
    "other_name": "the ledger {path} {detail}: leave --ledger.name out, or give the name that it has",
    "other_queue": "the ledger {path} {detail}: choose another --ledger.path, or go on with these counts by "
    "`sqs-event-exporter ledger rebind`",
    "read_only": "the ledger {path} is read-only ({detail}): make it and its directory writable for "
    "this process (uid {uid})",
    "unreadable": "the ledger {path} can't be opened ({detail}): set --ledger.path to a file in a writable directory",
}


def failure(path: str, reason: str, detail: str) -> LedgerError:
    """Make the LedgerError of one reason: a sentence with the path and the way out."""
    return LedgerError(reason, _SENTENCES[reason].format(path=path, detail=detail, uid=os.geteuid()))


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
    """CRC-32 of the fields of a row that holds no ids."""
    return crc32("\0".join(map(str, fields)).encode())
