"""Which series an event is counted under: today's labels, what is stored of them, and the caps.

A series is a key: the type, then the values of today's labels in their order. It is stored as the type and a JSON
object of the labels that are not empty, by name, so that labels can be added, removed and put in another order: what
was counted under a removed label is summed into the series without it, and is told apart again when it comes back.
Pure, for every ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from exporter.ledger import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable

Key = tuple[str, ...]

_ALL_LABELS = ""
"""Stands for every label, whatever it is called: no label has an empty name."""
WITHOUT_LABELS = "{}"
OTHER_LABELS = msgspec.json.encode({_ALL_LABELS: OTHER}).decode()
"""What is stored of the labels of a series that has what goes beyond a cap."""
_decode_labels = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True)
class Caps:
    """How many types and label sets a queue may have beside `shown`, the types that are shown from the start."""

    types: int
    series: int
    shown: frozenset[str]
    label_names: tuple[str, ...]

    def other(self, type_: str) -> Key:
        """Return the series that has what goes beyond the cap on label sets, or (of type OTHER) on types."""
        return (type_, *(OTHER for _ in self.label_names))

    def shown_keys(self) -> list[Key]:
        """Return the series that are shown at 0 from the start."""
        return [(type_, *("" for _ in self.label_names)) for type_ in sorted(self.shown)] + [self.other(OTHER)]

    def stored_labels(self, key: Key) -> str:
        """Return a key's labels as they are stored."""
        if key[0] == OTHER or (self.label_names and key == self.other(key[0])):
            return OTHER_LABELS
        labels = {name: value for name, value in zip(self.label_names, key[1:], strict=True) if value}
        return msgspec.json.encode(labels, order="sorted").decode()

    def key(self, type_: str, stored_labels: str) -> Key:
        """Return the key under today's labels of what is stored. Raises ValueError where that is no object of texts."""
        labels = _decode_labels(stored_labels)
        if _ALL_LABELS in labels:
            return self.other(type_)
        return (type_, *(labels.get(name, "") for name in self.label_names))


class Admission:
    """The types and label sets of one queue that are admitted: for good, so they only become more."""

    def __init__(self, caps: Caps, keys: Iterable[Key] = ()) -> None:
        self.caps = caps
        self._types: set[str] = set()
        self._sets: set[Key] = set()
        self._not_capped = frozenset(caps.shown_keys())
        for key in keys:
            self.add(key)

    def copy(self) -> Admission:
        """Return another one that admits the same."""
        copied = Admission(self.caps)
        copied._types, copied._sets = set(self._types), set(self._sets)
        return copied

    def add(self, key: Key) -> None:
        """Admit a series."""
        if key[0] not in self.caps.shown and key[0] != OTHER:
            self._types.add(key[0])
        if OTHER not in key and key not in self._not_capped:
            self._sets.add(key)

    def place(self, key: Key) -> tuple[Key, str]:
        """Return the series under which an event of `key` is counted, and the cap that it meets ("types" or "series").

        The cap is "" where it meets none: then the series is, or is to be, admitted.
        """
        caps, type_ = self.caps, key[0]
        if type_ not in self._types and type_ not in caps.shown and len(self._types) >= caps.types:
            return caps.other(OTHER), "types"
        if not caps.label_names or key in self._sets or key in self._not_capped or len(self._sets) < caps.series:
            return key, ""
        return caps.other(type_), "series"
