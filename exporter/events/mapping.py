"""How the events of a queue are read: which fields are meant, and where each of their texts comes from."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.events.fields import attribute_name, parse_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from exporter.events.envelope import EnvelopeName

    Texts = Sequence[bytes | msgspec.Raw]

CONSTANTS = (b"", b"1")
"""What stands for a field that is not read, and for a value where each event counts 1."""


@dataclass(frozen=True, slots=True)
class EventMapping:
    """How the events of a queue are read: which fields of the body, or `attribute:NAME`, and what they are wrapped in.

    Without a `value_field` each event counts 1; without an `id_field` no event has an id. `labels` are pairs of a
    label's name and its field; a label without one is always empty.
    """

    type_field: str = "type"
    value_field: str = "value"
    timestamp_field: str = "occurred_at"
    id_field: str = ""
    envelope: EnvelopeName = "auto"
    labels: tuple[tuple[str, str], ...] = ()
    require_timestamp: bool = False


class MappedFields:
    """The fields of a mapping in the order in which they are judged: type, value, timestamp, id, labels.

    Id and labels are left out where the mapping has neither. Raises ValueError where a field is wrong.
    """

    def __init__(self, mapping: EventMapping) -> None:
        fields = [mapping.type_field, mapping.value_field, mapping.timestamp_field]
        if mapping.id_field or mapping.labels:
            fields += [mapping.id_field, *(field for _, field in mapping.labels)]
        names = [attribute_name(field) for field in fields]
        self.attribute_names: tuple[str, ...] = tuple(dict.fromkeys(name for name in names if name is not None))
        """The message attributes among them, each once."""
        needed = {0, 2}  # type and timestamp; the others may be left empty
        self.paths = [
            parse_path(field)
            for number, (field, name) in enumerate(zip(fields, names, strict=True))
            if name is None and (field or number in needed)
        ]
        """The paths among them."""
        self.arrange = None if len(self.paths) == len(fields) else self._arrangement(fields, names)
        """What picks the fields' texts from those of the paths, the attributes and `CONSTANTS`; None: paths are all."""

    def _arrangement(self, fields: Sequence[str], names: Sequence[str | None]) -> Callable[[Texts], Texts]:
        constants = len(self.paths) + len(self.attribute_names)
        path = iter(range(len(self.paths)))
        order: list[int] = []
        for number, (field, name) in enumerate(zip(fields, names, strict=True)):
            if name is not None:
                order.append(len(self.paths) + self.attribute_names.index(name))
            elif field:
                order.append(next(path))
            else:
                order.append(constants + 1 if number == 1 else constants)
        return operator.itemgetter(*order)
