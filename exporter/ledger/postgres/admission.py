"""Admits new series: once for all replicas, under the queue's lock, never beyond a cap."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from exporter.ledger.postgres.encoding import texts, uuids
from exporter.ledger.postgres.flow import query, text, transaction
from exporter.ledger.postgres.schema import SCHEMA
from exporter.ledger.series import Admission

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.ledger.postgres.connection import Rows, Statement
    from exporter.ledger.postgres.flow import Flow
    from exporter.ledger.series import Caps, Key


class QueueSeries:
    """The series of one queue that are admitted, as far as this replica has read them: they only become more."""

    def __init__(self, caps: Caps, rows: Rows) -> None:
        self._caps = caps
        self._admission = Admission(caps)
        self._ids: dict[Key, int] = {}
        for id_, type_, labels in rows:
            key = caps.key(text(type_), text(labels))
            self._admission.add(key)
            if caps.stored_labels(key) == text(labels):
                self._ids[key] = int(text(id_))

    def place(self, key: Key) -> tuple[int | None, str]:
        """Return the row that counts an event (None: it has to be made), and which cap the event meets, or ""."""
        placed, cap = self._admission.place(key)
        return self._ids.get(placed), cap

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Place keys one after the other, as if each were admitted; returns the series that have no row yet."""
        missing: dict[Key, None] = {}
        for wanted in keys:
            key, _ = self._admission.place(wanted)
            self._admission.add(key)
            if key not in self._ids:
                missing[key] = None
        return list(missing)


def load(queue_id: int, caps: Caps) -> Flow[QueueSeries]:
    """Read the series of a queue, and admit those that are shown from the start."""
    series = QueueSeries(caps, (yield _series(queue_id)))
    if any(series.place(key)[0] is None for key in caps.shown_keys()):
        series = yield from admit(queue_id, caps, caps.shown_keys())
    return series


def admit(queue_id: int, caps: Caps, wanted: Sequence[Key]) -> Flow[QueueSeries]:
    """Admit what the caps allow; returns all series of the queue."""
    return (yield from transaction(lambda: _admit(queue_id, caps, wanted)))


def _admit(queue_id: int, caps: Caps, wanted: Sequence[Key]) -> Flow[QueueSeries]:
    yield query(f"SELECT FROM {SCHEMA}.queues WHERE id = $1::smallint FOR UPDATE", queue_id)
    missing = QueueSeries(caps, (yield _series(queue_id))).missing(wanted)
    stored = [(key[0], caps.stored_labels(key)) for key in missing]
    yield query(
        f"INSERT INTO {SCHEMA}.series (queue_id, digest, type, labels)"  # noqa: S608 - a constant
        " SELECT $1::smallint, * FROM unnest($2::uuid[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING",
        queue_id,
        uuids([digest(*pair) for pair in stored]),
        texts(type_ for type_, _ in stored),
        texts(labels for _, labels in stored),
    )
    return QueueSeries(caps, (yield _series(queue_id)))


def _series(queue_id: int) -> Statement:
    sql = f"SELECT id, type, labels FROM {SCHEMA}.series WHERE queue_id = $1::smallint"  # noqa: S608 - a constant
    return query(sql, queue_id)


def digest(type_: str, labels: str) -> bytes:
    """Return the 16 bytes by which a series is found: its labels may be longer than what a B-tree takes."""
    return blake2b(f"{type_}\0{labels}".encode(), digest_size=16, person=b"series").digest()
