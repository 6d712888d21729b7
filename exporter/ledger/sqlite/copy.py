"""A whole copy of an open ledger in another file, made with SQLite's backup API.

Not by reading the file: closing it would give up SQLite's locks, https://www.sqlite.org/howtocorrupt.html (2.2).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger.sqlite.create import sync_directory
from exporter.ledger.sqlite.schema import failures_of

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGES = 256
"""How many pages are copied at once, 1 MB: a commit waits some milliseconds for it."""
_PAUSE_SECONDS = 0.01
"""How long it waits where a transaction is open."""


def copy_to(
    connection: sqlite3.Connection, path: str, *, pages: int = -1, progress: Callable[[], None] = lambda: None
) -> None:
    """Copy all that is committed to `path`, which is replaced whole. Raises sqlite3.Error or OSError.

    With `pages` the connection is free for others between so many pages; `progress` is called then, and may raise.
    """
    draft = f"{path}.new"
    Path(draft).unlink(missing_ok=True)
    # As private as the ledger itself; SQLite would make it as the umask says.
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copied:
            copied.execute("PRAGMA synchronous=OFF")
            connection.backup(copied, pages=pages, progress=lambda *_: progress(), sleep=_PAUSE_SECONDS)
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        Path(draft).replace(path)
    except BaseException:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)
        raise
    sync_directory(path)


class _StoppedError(Exception):
    """The backup is not wanted any more."""


class Backup:
    """A backup beside the work: on a thread of its own, a megabyte at a time, while commits go on.

    SQLite keeps the copy up to date with what the same connection commits meanwhile, and refuses a step while a
    transaction is open. https://www.sqlite.org/c3ref/backup_finish.html
    """

    def __init__(
        self, connection: sqlite3.Connection, path: str, ended: Callable[[str, LedgerError | None], None]
    ) -> None:
        """Begin; `ended` is told, on that thread if it could be started, where it is or why there is none."""
        self._connection = connection
        self._path = path
        self._ended = ended
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backup", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            ended(
                path,
                LedgerError(
                    "io_error",
                    f"the backup {path} needs a thread, and none could be started ({error}): raise the limit on "
                    f"processes, and ask for it again",
                ),
            )

    @property
    def running(self) -> bool:
        """Whether it is still being written."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Give it up, before the connection is closed."""
        self._stopping.set()
        if self.running:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            with failures_of(self._path):
                copy_to(self._connection, self._path, pages=_PAGES, progress=self._go_on)
        except LedgerError as error:
            self._ended(self._path, error)
        except _StoppedError:
            return
        else:
            self._ended(self._path, None)

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError
