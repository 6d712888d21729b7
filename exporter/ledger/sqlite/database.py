"""The open SQLite file: one exclusive connection, its transactions and checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import stat
import time
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING
from urllib.parse import quote

from exporter.errors import LedgerError
from exporter.ledger import failpoint
from exporter.ledger.sqlite.migration import TABLES_1, migrate
from exporter.ledger.sqlite.schema import APPLICATION_ID, TABLES, VERSION, failure, failures_of
from exporter.ledger.sqlite.wal import lost_transactions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

CHECKPOINT_PAGES = 1_000
"""How long the write-ahead log grows, about 4 MB: a checkpoint takes some milliseconds."""

_TRY_AGAIN_SECONDS = (0.01, 0.05)
"""A wait at random between these, so that two processes fall out of step."""

_PRAGMAS = (
    "locking_mode=EXCLUSIVE",  # before the first access, so that no shared memory is used and nobody else gets in
    "journal_mode=WAL",
    "synchronous=FULL",  # NORMAL: a power cut may undo a commit whose messages are deleted already
    "fullfsync=ON",  # macOS' fsync does not reach the disk
    "wal_autocheckpoint=0",  # it would hide a checkpoint's failure; the ledger does its own
    "cell_size_check=ON",
    "trusted_schema=OFF",
)


_header = Struct(">16s44xI4xI")
_MAGIC = b"SQLite format 3\0"


class Database:
    """An existing ledger, opened by nobody else, checked, and brought to today's schema. Raises LedgerError.

    `name` is what a ledger of an older schema, which has none, is to be called.
    """

    def __init__(self, path: str, lock_timeout_seconds: float, name: str | None) -> None:
        self._path = path
        self._log_pages = 0
        with failures_of(path):
            self.connection = _connect(path, lock_timeout_seconds, name)
            try:
                self._files = self._identify()
            except OSError:
                self.close()
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; LedgerError where that is not known to be done."""
        with failures_of(self._path):
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self._require_same_files()
                failpoint.reach("in_commit")
                self.connection.execute("COMMIT")
            except BaseException:
                # After some errors SQLite has rolled back by itself, and a statement would be a transaction of its own.
                if self.connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self.connection.execute("ROLLBACK")
                raise

    def checkpoint_after(self, pages: int) -> LedgerError | None:
        """Checkpoint when `pages` more fill the log; a failure undoes no commit, and is returned for the next one.

        On a full disk the log may still have free pages: that is found out by the commits.
        """
        self._log_pages += pages
        if self._log_pages < CHECKPOINT_PAGES:
            return None
        self._log_pages = 0
        try:
            with failures_of(self._path):
                _checkpoint(self.connection)
        except LedgerError as error:
            return None if error.reason == "full" else error
        return None

    def close(self) -> None:
        """Close; whatever fails then is found again at the next opening."""
        with contextlib.suppress(sqlite3.Error, MemoryError):
            self.connection.close()

    def _require_same_files(self) -> None:
        try:
            same = self._identify() == self._files
        except FileNotFoundError as error:
            raise failure(self._path, "io_error", "it is gone") from error
        if not same:
            raise failure(self._path, "io_error", "it was replaced while in use")

    def _identify(self) -> tuple[int, int, int]:
        database, log = os.stat(self._path), os.stat(f"{self._path}-wal")  # noqa: PTH116 - each commit pays for it
        return database.st_dev, database.st_ino, log.st_ino


def _connect(path: str, lock_timeout_seconds: float, name: str | None) -> sqlite3.Connection:
    """Open an existing ledger, alone, and check that it is one and whole. Raises LedgerError."""
    found = Path(path).stat()  # `is_file` may take a file that can't be looked at for none
    if not stat.S_ISREG(found.st_mode):
        raise failure(path, "unreadable", "it is not a regular file")
    if found.st_size == 0:
        raise failure(path, "corrupt", "it is empty")
    for place in (path, Path(path).parent):
        if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise failure(path, "read_only", f"no permission to write {place}")
    _require_ours(path)
    log = f"{path}-wal"
    # While another process writes it a log looks damaged; when that has left it is whole, or gone.
    if lost_transactions(log) and not in_use(path) and lost_transactions(log):
        raise failure(path, "corrupt", "its write-ahead log")
    connection = _connect_alone(path, lock_timeout_seconds)
    try:
        connection.execute("BEGIN IMMEDIATE")
        version = _require_whole(connection, path)
        connection.execute("COMMIT")
        # Rewrites what an earlier process left in the log: after a failed fsync it may be in the page cache alone.
        _checkpoint(connection, "TRUNCATE")
        if version == 1:
            migrate(connection, path, name)
            _checkpoint(connection, "TRUNCATE")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_alone(path: str, lock_timeout_seconds: float) -> sqlite3.Connection:
    """Open the file with an exclusive lock, waited for as long as the timeout allows.

    Of two processes that open it at once each may hold the shared lock that keeps the other one from the exclusive one.
    Only closing gives it back, so SQLite's own waiting is kept short. https://www.sqlite.org/c3ref/busy_handler.html
    """
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    give_up_at = time.monotonic() + lock_timeout_seconds
    while True:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=_TRY_AGAIN_SECONDS[0], check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException as error:
            connection.close()  # gives the shared lock back, too
            locked = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if not locked or time.monotonic() >= give_up_at:
                raise
            time.sleep(random.uniform(*_TRY_AGAIN_SECONDS))  # noqa: S311 - no secret
        else:
            return connection


def in_use(path: str) -> bool:
    """Tell whether another process has the ledger open.

    The lock is SQLite's: https://www.sqlite.org/src/file/src/os.h (SHARED_FIRST, SHARED_SIZE). Closing the file gives
    up all locks that this process has on it, so a process does not ask about a ledger that it has open itself.
    """
    with _open(path) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 510, 0x40000002)
        except (BlockingIOError, PermissionError):
            return True
    return False


def _open(path: str) -> BinaryIO:
    """Open the file to read it. A pipe in its place is not waited for, and holds nothing."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def _require_ours(path: str) -> None:
    """Check whose file it is by its first bytes, before SQLite opens it and makes another program's one with a log.

    SQLite can't be asked without its log: a checkpoint that did not finish leaves the file alone inconsistent.
    https://www.sqlite.org/fileformat2.html#the_database_header
    """
    try:
        with _open(path) as file:
            magic, version, application_id = _header.unpack(file.read(_header.size).ljust(_header.size, b"\0"))
    except PermissionError as error:
        raise failure(path, "unreadable", str(error.strerror)) from error
    if magic != _MAGIC:
        raise failure(path, "corrupt", "file is not a database")
    if application_id != APPLICATION_ID:
        raise failure(path, "unreadable", "it is no ledger but another program's database")
    _require_known(path, version)


def _require_known(path: str, version: int) -> None:
    if version > VERSION:
        raise failure(path, "newer_schema", f"schema {version}, this one knows {VERSION}")
    if version < 1:
        raise failure(path, "corrupt", f"schema {version}, which never was")


def _require_whole(connection: sqlite3.Connection, path: str) -> int:
    """Check that it holds what a ledger holds; returns its schema's version."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    _require_known(path, version)
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    # SQLite's own, such as those of ANALYZE, are no harm.
    if {name: sql for name, sql in tables.items() if not name.startswith("sqlite_")} != (
        TABLES_1 if version == 1 else TABLES
    ):
        raise failure(path, "corrupt", "its tables are not a ledger's")
    ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != "ok":
        raise failure(path, "corrupt", str(found).splitlines()[-1])
    return int(version)


def _checkpoint(connection: sqlite3.Connection, mode: str = "PASSIVE") -> None:
    """Move the write-ahead log into the database. PASSIVE lets the log be overwritten in place: half the fsync time."""
    failpoint.reach("in_checkpoint")
    busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    if busy:
        raise sqlite3.OperationalError("the checkpoint could not finish")
