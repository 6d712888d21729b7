"""Which series an event is counted under, and how a new one is admitted: once for all replicas, never beyond a cap."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from exporter.ledger import OTHER
from exporter.ledger.postgres.encoding import texts, uuids
from exporter.ledger.postgres.flow import query, text, transaction
from exporter.ledger.postgres.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.ledger.postgres.connection import Rows, Statement
    from exporter.ledger.postgres.flow import Flow

Key = tuple[str, ...]
"""The type, then the values of today's labels in their order."""

_ALL_LABELS = ""
"""Stands for every label, whatever it is called: no label has an empty name."""
_decode_labels = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True)
class Caps:
    """How many types and label sets a queue may have, and what is shown from the start beside them."""

    types: int
    series: int
    shown: frozenset[str]
    label_names: tuple[str, ...]

    def other(self, type_: str) -> Key:
        """Return the series that has what goes beyond the cap on label sets, or (OTHER) on types."""
        return (type_, *(OTHER for _ in self.label_names))

    def shown_keys(self) -> list[Key]:
        """Return the series that are shown at 0 from the start."""
        return [(type_, *("" for _ in self.label_names)) for type_ in sorted(self.shown)] + [self.other(OTHER)]

    def stored_labels(self, key: Key) -> str:
        """Return a key's labels as they are stored: a JSON object without those that are empty."""
        if self.label_names and key == self.other(key[0]):
            return msgspec.json.encode({_ALL_LABELS: OTHER}).decode()
        labels = {name: value for name, value in zip(self.label_names, key[1:], strict=True) if value}
        return msgspec.json.encode(labels, order="sorted").decode()

    def key(self, type_: str, stored_labels: str) -> Key:
        """Return the key under today's labels of what is stored: labels that were removed are left out."""
        labels = _decode_labels(stored_labels)
        if _ALL_LABELS in labels:
            return self.other(type_)
        return (type_, *(labels.get(name, "") for name in self.label_names))


@dataclass(slots=True)
class QueueSeries:
    """The series of one queue that are admitted, as far as this replica has read them: they only become more."""

    caps: Caps
    ids: dict[Key, int] = field(default_factory=dict)
    """The row that counts each key; a key of which only rows with other labels exist has none yet."""
    keys: set[Key] = field(default_factory=set)
    types: set[str] = field(default_factory=set)

    def read(self, rows: Rows) -> None:
        """Take in rows of (id, type, labels)."""
        for id_, type_, labels in rows:
            key = self.caps.key(text(type_), text(labels))
            self.keys.add(key)
            self.types.add(key[0])
            if self.caps.stored_labels(key) == text(labels):
                self.ids[key] = int(text(id_))

    def place(self, key: Key) -> tuple[Key, str]:
        """Return under which key an event is counted, and which cap it meets ("" for none)."""
        caps = self.caps
        if key in self.keys:
            return key, ""
        type_ = key[0]
        if type_ not in self.types and type_ not in caps.shown:
            admitted = self.types - caps.shown - {OTHER}
            if len(admitted) >= caps.types:
                return caps.other(OTHER), "types"
        if caps.label_names and sum(OTHER not in known[1:] for known in self.keys) >= caps.series:
            return caps.other(type_), "series"
        return key, ""

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Place keys one after the other, as if each were admitted; returns those that have no row yet."""
        missing: list[Key] = []
        for wanted in keys:
            key, _ = self.place(wanted)
            self.keys.add(key)
            self.types.add(key[0])
            if key not in self.ids and key not in missing:
                missing.append(key)
        return missing


def load(queue_id: int, caps: Caps) -> Flow[QueueSeries]:
    """Read the series of a queue, and admit those that are shown from the start."""
    series = QueueSeries(caps)
    series.read((yield _series(queue_id)))
    if any(key not in series.ids for key in caps.shown_keys()):
        series = yield from admit(queue_id, caps, caps.shown_keys())
    return series


def admit(queue_id: int, caps: Caps, wanted: Sequence[Key]) -> Flow[QueueSeries]:
    """Admit what the caps allow, under the queue's lock; returns all series of the queue."""
    return (yield from transaction(_admit(queue_id, caps, wanted)))


def _admit(queue_id: int, caps: Caps, wanted: Sequence[Key]) -> Flow[QueueSeries]:
    yield query(f"SELECT FROM {SCHEMA}.queues WHERE id = $1::smallint FOR UPDATE", queue_id)  # noqa: S608 - a constant
    series = QueueSeries(caps)
    series.read((yield _series(queue_id)))
    missing = series.missing(wanted)
    stored = [(key[0], caps.stored_labels(key)) for key in missing]
    yield query(
        f"INSERT INTO {SCHEMA}.series (queue_id, digest, type, labels)"  # noqa: S608 - a constant
        " SELECT $1::smallint, * FROM unnest($2::uuid[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING",
        queue_id,
        uuids([_digest(*pair) for pair in stored]),
        texts(type_ for type_, _ in stored),
        texts(labels for _, labels in stored),
    )
    series = QueueSeries(caps)
    series.read((yield _series(queue_id)))
    return series


def _series(queue_id: int) -> Statement:
    return query(f"SELECT id, type, labels FROM {SCHEMA}.series WHERE queue_id = $1::smallint", queue_id)  # noqa: S608


def _digest(type_: str, labels: str) -> bytes:
    # The labels may be longer than what a B-tree takes.
    return blake2b(f"{type_}\0{labels}".encode(), digest_size=16, person=b"series").digest()
