"""Writes a ledger as lines of JSON, and reads them back: the same counts, memory of ids and name.

The first line says whose it is, the last how many there are, so that one that was cut short is not taken for whole. In
between there is a line a row: `queue`, `series`, `reason`, and `commit` and `event_ids` in the order of their commits.
Ids are in hex, counts whole numbers of any size.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ExporterError, LedgerError
from exporter.ledger import SeriesTotals
from exporter.ledger.series import Caps
from exporter.ledger.sqlite import event_memory, memory
from exporter.ledger.sqlite.create import exists, lay_out, publish
from exporter.ledger.sqlite.event_memory import EventRow
from exporter.ledger.sqlite.file import open_file
from exporter.ledger.sqlite.memory import Row
from exporter.ledger.sqlite.queue_row import Identity, QueueRow, write_queue
from exporter.ledger.sqlite.schema import failures_of
from exporter.ledger.sqlite.stopped import imbalance_of
from exporter.ledger.sqlite.total_rows import TotalRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT = 1
_SERIES = (
    "queue_id", "type", "labels", "count", "value_nano", "negative_nano", "last_occurred_seconds", "created_seconds"
)  # fmt: skip
_REASON = ("queue_id", "kind", "reason", "count")
_COUNTS = {"count", "value_nano", "negative_nano"}
_KINDS = {
    "queues": ("queue", tuple(name for name in QueueRow._fields if name != "rows_checksum")),
    "series": ("series", _SERIES),
    "reasons": ("reason", _REASON),
    "commits": ("commit", Row._fields),
    "event_ids": ("event_ids", EventRow._fields),
}
"""What a line of each table is called, and the columns that it shows: the checksums are made anew."""
_QUEUE_COUNTS = {"received", "duplicate", "timestamps_unreadable", "forgotten_early", "without_event_id",
                 "events_forgotten"}  # fmt: skip


_NOT_EXPORTED = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    struct.error,
)
"""What reading and writing a line raises that is no row of a ledger: another shape, type or range."""


def export_lines(identity: Identity, rows: Iterable[tuple[str, tuple[Any, ...]]]) -> Iterator[str]:
    """Yield the lines, without line breaks; rows are given with the name of their table, a queue's own row first."""
    yield json.dumps({"sqs_event_exporter_ledger": {"format": FORMAT, **identity._asdict()}})
    lines = 1
    for table, row in rows:
        kind, columns = _KINDS[table]
        shown = {name: _shown(name, value) for name, value in zip(columns, row, strict=False)}
        yield json.dumps({kind: shown})
        lines += 1
    yield json.dumps({"end": {"lines": lines + 1}})


def import_lines(path: str, lines: Iterable[str]) -> Identity:
    """Make the ledger that was exported, at `path`, where there must be none; it appears whole or not at all.

    Raises LedgerError, and ExporterError where the lines are not those of an export.
    """
    with failures_of(path):
        if exists(path) or exists(f"{path}-wal"):
            raise _is_there(path)
        handle, draft = tempfile.mkstemp(prefix=f".{Path(path).name}.", suffix=".new", dir=Path(path).parent)
        try:
            identity = _Reader(draft).read(lines)
            try:
                file = open_file(draft, None, Caps(0, 0, frozenset(), ()), 2**62, time.monotonic, 0.0)
            except LedgerError as error:
                if error.reason != "corrupt":
                    raise LedgerError(error.reason, str(error).replace(draft, path)) from error
                raise _changed("it holds a row that no ledger has") from error
            file.close()
            imbalance = imbalance_of({name: queue.state.snapshot for name, queue in file.queues.items()})
            if imbalance is not None:
                raise _changed(imbalance)
            os.fsync(handle)
            if not publish(draft, path):
                raise _is_there(path)
        finally:
            os.close(handle)
            for suffix in ("", "-wal", "-shm"):
                Path(f"{draft}{suffix}").unlink(missing_ok=True)
    return identity


def _changed(how: str) -> ExporterError:
    return ExporterError(
        f"the export on stdin was changed: {how}; pipe the output of `sqs-event-exporter ledger export` whole and as "
        f"it is"
    )


def _is_there(path: str) -> LedgerError:
    return LedgerError(
        "unreadable",
        f"there is a ledger already at {path}, and import replaces none: move it away, or choose another --ledger.path",
    )


class _Reader:
    """Writes the rows of an export into an empty file."""

    def __init__(self, draft: str) -> None:
        self._draft = draft
        self._number = 0
        self._queues: dict[int, QueueRow] = {}
        self._totals: dict[int, TotalRows] = {}
        self._sums: dict[int, int] = {}

    def read(self, lines: Iterable[str]) -> Identity:
        iterator = iter(lines)
        try:
            identity = self._header(next(iterator, ""))
            lay_out(self._draft, identity)
            with contextlib.closing(sqlite3.connect(self._draft, isolation_level=None)) as connection:
                connection.execute("BEGIN")
                self._rows(connection, iterator)
                for queue in self._queues.values():
                    totals = self._totals[queue.id]
                    write_queue(connection, queue._replace(rows_checksum=self._sums[queue.id] + totals.change))
                connection.execute("COMMIT")
        except _NOT_EXPORTED as error:
            raise ExporterError(
                f"line {self._number} on stdin is not what `sqs-event-exporter ledger export` writes: pipe its output, "
                f"whole and as it is"
            ) from error
        return identity

    def _header(self, line: str) -> Identity:
        self._number = 1
        fields = json.loads(line)["sqs_event_exporter_ledger"]
        if fields.pop("format") != FORMAT:
            raise ValueError(line)
        return Identity(str(fields["instance_id"]), str(fields["name"]), float(fields["created_seconds"]))

    def _rows(self, connection: sqlite3.Connection, lines: Iterator[str]) -> None:
        for line in lines:
            self._number += 1
            ((kind, fields),) = json.loads(line).items()
            if kind == "end":
                if fields["lines"] != self._number or next(lines, "").strip():
                    raise ValueError(line)
                return
            self._row(connection, kind, fields)
        self._number += 1
        raise ValueError("it ends before its end")

    def _row(self, connection: sqlite3.Connection, kind: str, fields: dict[str, Any]) -> None:
        if kind == "queue":
            queue = QueueRow(**fields, rows_checksum=0)
            self._queues[queue.id] = queue
            self._totals[queue.id] = TotalRows(queue.id)
            self._sums[queue.id] = 0
            return
        queue_id = fields["queue_id"]
        totals = self._totals[queue_id]
        if kind == "series":
            _, name, labels, *values = (fields[column] for column in _SERIES)
            totals.write_series(connection, {(name, labels): SeriesTotals(*values)})
        elif kind == "reason":
            totals.write_reasons(connection, fields["kind"], {fields["reason"]: fields["count"]})
        elif kind == "commit":
            self._sums[queue_id] += memory.append(connection, Row(**_with_ids(fields)))
        elif kind == "event_ids":
            self._sums[queue_id] += event_memory.append(connection, EventRow(**_with_ids(fields)))
        else:
            raise ValueError(kind)


def _shown(name: str, value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return int(str(value)) if name in _COUNTS or name in _QUEUE_COUNTS else value


def _with_ids(fields: dict[str, Any]) -> dict[str, Any]:
    blobs = {"settled", "ids", "renewed", "carried", "links"}
    return {name: bytes.fromhex(value) if name in blobs else value for name, value in fields.items()}
