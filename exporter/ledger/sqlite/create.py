"""Creates a ledger's file, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import tempfile
import uuid
from pathlib import Path

from exporter.ledger.sqlite.queue_row import Identity, write_identity
from exporter.ledger.sqlite.schema import APPLICATION_ID, PAGE_BYTES, TABLES, VERSION, failure

_WITHOUT_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def new_instance_id() -> str:
    """Make the identity of a new ledger."""
    return str(uuid.uuid4())


def name_of(instance_id: str) -> str:
    """Return the name of a ledger that was given none: the first 8 hex digits of its identity."""
    return instance_id[:8]


def exists(path: str) -> bool:
    """Whether there is something. Raises OSError where that can't be found out; `Path.exists` may take it for no."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def create(path: str, name: str | None, now: float) -> bool:
    """Make a new ledger at `path` unless there is a file. It appears whole or not at all, even if the process dies."""
    if exists(path):
        return False
    if exists(f"{path}-wal"):
        raise failure(path, "corrupt", "it is missing, but its write-ahead log is there")
    handle, draft = tempfile.mkstemp(prefix=f".{Path(path).name}.", suffix=".new", dir=Path(path).parent)
    try:
        instance_id = new_instance_id()
        lay_out(draft, Identity(instance_id, name or name_of(instance_id), now))
        os.fsync(handle)
        return publish(draft, path)
    finally:
        os.close(handle)
        Path(draft).unlink(missing_ok=True)


def sync_directory(path: str) -> None:
    """Bring to the disk that a file at `path` has appeared."""
    directory = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def lay_out(draft: str, identity: Identity) -> None:
    """Write an empty ledger into a file that is empty."""
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        for statement in TABLES.values():
            connection.execute(statement)
        write_identity(connection, identity)


def publish(draft: str, path: str) -> bool:
    """Let a file appear at `path`, whole; False where there is one already."""
    try:
        os.link(draft, path)  # unlike a rename it never replaces the ledger of a process that was quicker
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_HARD_LINKS:
            raise
        Path(draft).rename(path)
    sync_directory(path)
    return True
