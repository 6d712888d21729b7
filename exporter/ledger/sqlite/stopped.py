"""Opens the ledger of a stopped exporter for the `ledger` commands: read-only, or to change it on purpose."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.errors import LedgerError
from exporter.ledger.series import Caps
from exporter.ledger.sqlite.copy import copy_to
from exporter.ledger.sqlite.create import exists, name_of, new_instance_id
from exporter.ledger.sqlite.database import in_use
from exporter.ledger.sqlite.file import LedgerFile, open_file
from exporter.ledger.sqlite.mark import SUFFIX
from exporter.ledger.sqlite.queue_row import Identity, write_identity
from exporter.ledger.sqlite.schema import failure, failures_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.ledger import Snapshot
    from exporter.ledger.sqlite.event_memory import Pair
    from exporter.ledger.sqlite.state import State

_ALL_IDS = 2**62
_ORDER = {
    "queues": "id",
    "series": "queue_id, type, labels",
    "reasons": "queue_id, kind, reason",
    "commits": "seq",
    "event_ids": "seq",
}
"""The tables below the ledger's own row, and in which order their rows are read."""
_SENTENCES_OF_READING = {
    "full": "the ledger {path} is read from a copy, which finds no place in the temporary directory: free space there, "
    "or set TMPDIR to a writable directory that has it",
    "read_only": "the ledger {path} can't be read by this process (uid {uid}): run this as the user that owns it",
}
"""What a failure means where nothing is written beside the ledger: it is about the copy, or about reading."""


class Remembered(NamedTuple):
    """The ids that one commit was the last to remember, each with whether it is that of an unsettled message."""

    clock_seconds: float
    """When that was, on the queue's own clock."""
    committed_at_seconds: float
    """The same as Unix time."""
    ids: Sequence[tuple[bytes, bool]]


@dataclass(slots=True)
class StoppedLedger:
    """What a ledger holds."""

    _file: LedgerFile
    _path: str

    @property
    def name(self) -> str:
        """The ledger's own name."""
        return self._file.identity.name

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """What was committed, by queue."""
        return {name: queue.state.snapshot for name, queue in self._file.queues.items()}

    def links(self, queue: str) -> Iterator[Pair]:
        """Yield the unsettled messages that hold an event which is remembered by its own id, each with that id."""
        return self._state(queue).events.links()

    def messages_by_age(self, queue: str) -> Iterator[Remembered]:
        """Yield the ids of messages that are remembered, oldest first."""
        rows = self._state(queue).memory.by_age(self._file.database.connection)
        return (Remembered(row.clock_seconds, row.committed_at_seconds, ids) for row, ids in rows)

    def events_by_age(self, queue: str) -> Iterator[Remembered]:
        """Yield the ids of events that are remembered, oldest first."""
        rows = self._state(queue).events.by_age(self._file.database.connection)
        return (
            Remembered(row.clock_seconds, row.committed_at_seconds, [(event_id, False) for event_id in ids])
            for row, ids in rows
        )

    def settled_pairs(self, queue: str) -> Iterator[Pair]:
        """Yield settled messages and the event that each held, as far as that is still known.

        Of several pairs of one message the last is the one that holds.
        """
        return self._state(queue).events.settled_pairs(self._file.database.connection)

    @property
    def identity(self) -> Identity:
        """Its own row: instance id, name, and when it was made."""
        return self._file.identity

    def rows(self, tables: Iterable[str] = tuple(_ORDER)) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield all rows below the ledger's own, or of some of those tables, each with the name of its table."""
        with failures_of(self._path):
            for table in tables:
                select = f"SELECT * FROM {table} ORDER BY {_ORDER[table]}"  # noqa: S608 - fixed
                yield from ((table, row) for row in self._file.database.connection.execute(select))

    def check(self) -> None:
        """Look through the whole file, and add up the account of each queue. Raises LedgerError."""
        with failures_of(self._path):
            found = self._file.database.connection.execute("PRAGMA integrity_check(1)").fetchall()
        if found != [("ok",)]:
            raise failure(self._path, "corrupt", str(found[0][0]).splitlines()[-1])
        if (imbalance := imbalance_of(self.snapshots)) is not None:
            raise failure(self._path, "corrupt", imbalance)

    def rename(self, name: str | None) -> str:
        """Make it another ledger, with a name that is given or random; returns that."""
        instance_id = new_instance_id()
        identity = self.identity._replace(instance_id=instance_id, name=name or name_of(instance_id))
        with self._file.database.transaction() as connection:
            write_identity(connection, identity)
        self._file.identity = identity
        return identity.name

    def copy_to(self, path: str) -> None:
        """Write all of it to a file, which is replaced whole. Raises LedgerError."""
        with failures_of(path):
            copy_to(self._file.database.connection, path)

    def rebind(self, queue: str, arn: str) -> None:
        """Tie a queue's rows to another ARN: what was counted and remembered stays."""
        state = self._state(queue)
        with self._file.database.transaction() as connection:
            state.rebind(connection, arn)

    def forget_type(self, queue: str, name: str) -> int:
        """Take a type away with all that was counted of it; returns how many events that were.

        The account stays whole: they are `events_forgotten` from then on.
        """
        state = self._state(queue)
        with self._file.database.transaction() as connection:
            return state.forget_type(connection, name)

    def _state(self, queue: str) -> State:
        found = self._file.queues.get(queue)
        if found is None:
            known = ", ".join(sorted(self._file.queues)) or "none"
            raise LedgerError("other_queue", f"the ledger {self._path} has no queue {queue}, only: {known}")
        return found.state


def imbalance_of(snapshots: Mapping[str, Snapshot]) -> str | None:
    """Say of a queue whose account does not add up what it has received and accounts for; None: all of them do."""
    for name, snapshot in snapshots.items():
        of_reasons = sum(snapshot.rejected.values()) + sum(snapshot.released.values())
        accounted = snapshot.counted + snapshot.events_forgotten + snapshot.duplicate + of_reasons
        if snapshot.received != accounted:
            return f"queue {name} has received {snapshot.received}, but accounts for {accounted}"
    return None


@contextlib.contextmanager
def reading(path: str, label_names: Sequence[str] = ()) -> Iterator[StoppedLedger]:
    """Read a ledger from a copy: neither it nor its log is touched. Raises LedgerError, also while it is in use.

    The reason is "full" where the copy finds no place, "read_only" where there is no permission to read.
    """
    with contextlib.ExitStack() as stack:
        try:
            with failures_of(path):
                _require_there(path)
                _require_free(path)
                copy = _copy(path, stack.enter_context(_temporary_directory()))
                _require_free(path)  # a process that opened it meanwhile may have changed what was still to be copied
                ledger = stack.enter_context(_opened(copy, path, label_names))
        except LedgerError as error:
            if error.reason not in _SENTENCES_OF_READING:
                raise
            sentence = _SENTENCES_OF_READING[error.reason].format(path=path, uid=os.geteuid())
            raise LedgerError(error.reason, sentence) from error
        yield ledger


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="sqs-event-exporter-")
    except OSError as error:
        raise LedgerError("full", str(error)) from error


def _copy(path: str, directory: str) -> str:
    """Copy a ledger, its log and its mark; returns the path of the copy."""
    copy = str(Path(directory) / "ledger.db")
    for suffix in ("", "-wal", SUFFIX):
        if exists(path + suffix):
            shutil.copyfile(path + suffix, copy + suffix)
    return copy


def _require_there(path: str) -> None:
    if not exists(path):
        raise LedgerError("unreadable", f"there is no ledger {path}: correct --ledger.path")


def _require_free(path: str) -> None:
    if in_use(path):
        raise failure(path, "locked", "")


@contextlib.contextmanager
def changing(path: str) -> Iterator[StoppedLedger]:
    """Open a ledger to change it on purpose. Raises LedgerError, also while it is in use."""
    with failures_of(path):
        _require_there(path)
    with _opened(path, path, ()) as ledger:
        yield ledger


@contextlib.contextmanager
def _opened(path: str, shown_path: str, label_names: Sequence[str]) -> Iterator[StoppedLedger]:
    caps = Caps(0, 0, frozenset(), tuple(label_names))
    with contextlib.ExitStack() as stack:
        try:
            file = open_file(path, None, caps, _ALL_IDS, time.monotonic, 0.0)
            stack.callback(file.close)
            file.require(None)
        except LedgerError as error:
            raise LedgerError(error.reason, str(error).replace(path, shown_path)) from error
        yield StoppedLedger(file, shown_path)
