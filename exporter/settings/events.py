"""Which events are shown and how they are read, for all queues and for single ones."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from exporter.errors import WrongSettingError
from exporter.events.envelope import EnvelopeName
from exporter.events.fields import FIELD_RULE, attribute_name, parse_path
from exporter.events.labels import LABELS_RULE, check_label_names, parse_labels
from exporter.events.mapping import EventMapping
from exporter.settings.setting import EventTypes, Group, QueueNameOrPrefix, Seconds, Setting


def _field(text: str) -> str:
    if attribute_name(text) is None:
        parse_path(text)
    return text


def _labels(value: object) -> object:
    text = ",".join(value) if isinstance(value, list) else value
    return parse_labels(text) if isinstance(text, str) else value


FieldName = Annotated[str, AfterValidator(_field)]
OptionalFieldName = Annotated[str, AfterValidator(lambda text: _field(text) if text else text)]
Labels = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_labels)]

_FIELD = f"{FIELD_RULE}, or attribute:NAME for a message attribute"
_TYPE_FIELD = Setting("events.type-field", "the field that holds an event's type", _FIELD, "FIELD")
_VALUE_FIELD = Setting(
    "events.value-field",
    "the field that holds an event's value; empty: each event counts 1",
    f"{_FIELD}, or nothing",
    "FIELD",
)
_TIMESTAMP_FIELD = Setting("events.timestamp-field", "the field that says when an event occurred", _FIELD, "FIELD")
_ID_FIELD = Setting(
    "events.id-field",
    "the field that holds an event's own id; with it each event is counted once whatever sent it twice",
    f"{_FIELD}, or nothing",
    "FIELD",
)
_ENVELOPE = Setting(
    "events.envelope",
    "what events are wrapped in; auto looks where a message is not an event itself",
    "auto, none, sns, eventbridge or cloudevents",
    "WHAT",
)
_LABELS = Setting(
    "events.labels", "labels of an event beside its type, with their fields", LABELS_RULE, "NAME=FIELD,..."
)


class EventsSettings(Group):
    """Which events are shown, and how they are read."""

    types: Annotated[
        EventTypes,
        Setting(
            "events.types",
            "event types that are shown from the start, at 0",
            "names with commas between them, each of 1 to 128 characters, not starting with __",
            "A,B,C",
        ),
    ] = ()
    max_types: Annotated[
        int,
        Field(ge=0, le=10_000),
        Setting(
            "events.max-types",
            "how many further types are shown by name; the rest is counted as __other__",
            "a whole number from 0 to 10000",
            "N",
        ),
    ] = 200
    type_field: Annotated[FieldName, _TYPE_FIELD] = "type"
    value_field: Annotated[OptionalFieldName, _VALUE_FIELD] = "value"
    timestamp_field: Annotated[FieldName, _TIMESTAMP_FIELD] = "occurred_at"
    require_timestamp: Annotated[
        bool,
        Setting(
            "events.require-timestamp",
            "reject events without a usable timestamp instead of counting them",
            "true or false",
            "true|false",
        ),
    ] = False
    id_field: Annotated[OptionalFieldName, _ID_FIELD] = ""
    id_window_seconds: Annotated[
        Annotated[Seconds, Field(ge=1, le=14 * 86_400)] | None,
        Setting(
            "events.id-window",
            "how long an event's own id is remembered; as long as a message, if not set",
            "a duration from 1s to 14d",
            "DURATION",
        ),
    ] = None
    envelope: Annotated[EnvelopeName, _ENVELOPE] = "auto"
    labels: Annotated[Labels, _LABELS] = ()
    max_series: Annotated[
        int,
        Field(ge=0, le=100_000),
        Setting(
            "events.max-series",
            "how many sets of labels a queue may have, all types together; the rest is counted as __other__",
            "a whole number from 0 to 100000",
            "N",
        ),
    ] = 1_000


class QueueEventsSettings(Group):
    """How the events of a queue are read, where that differs: what stands under `queues` in the file."""

    type_field: Annotated[FieldName | None, _TYPE_FIELD] = None
    value_field: Annotated[OptionalFieldName | None, _VALUE_FIELD] = None
    timestamp_field: Annotated[FieldName | None, _TIMESTAMP_FIELD] = None
    id_field: Annotated[OptionalFieldName | None, _ID_FIELD] = None
    envelope: Annotated[EnvelopeName | None, _ENVELOPE] = None
    labels: Annotated[Labels | None, _LABELS] = None


class QueueSettings(Group):
    """What holds for one queue, or for those whose names begin with a prefix (`shop-*`)."""

    queue: QueueNameOrPrefix
    events: QueueEventsSettings

    def applies_to(self, name: str) -> bool:
        """Whether the queue of this name is meant."""
        return name == self.queue or (self.queue.endswith("*") and name.startswith(self.queue[:-1]))


def all_label_names(events: EventsSettings, queues: Sequence[QueueSettings]) -> tuple[str, ...]:
    """Return the labels that any queue has, in the order in which they are first named; each series has them all.

    Raises WrongSettingError where they are too many.
    """
    labels = [events.labels, *(queue.events.labels or () for queue in queues)]
    names = list(dict.fromkeys(name for some in labels for name, _ in some))
    try:
        check_label_names(names)
    except ValueError as error:
        raise WrongSettingError(
            f"--events.labels and the labels under 'queues' of the file together: {error}"
        ) from None
    return tuple(names)


def mapping_of(name: str, events: EventsSettings, queues: Sequence[QueueSettings]) -> EventMapping:
    """Return how the events of the queue of this name are read.

    What stands under its own name goes before what stands under a prefix of it, the longest one first; what neither
    says is as for all queues. A queue with labels of its own has only these; the others are empty.
    """
    applying = [queue for queue in queues if queue.applies_to(name)]
    # "*" never ends a name, so that no prefix is longer than the name that it is a prefix of.
    nearest = max(applying, key=lambda queue: (queue.queue == name, len(queue.queue)), default=None)
    own = {} if nearest is None else nearest.events.model_dump(exclude_none=True)
    fields = dict(own.get("labels", events.labels))
    return EventMapping(
        type_field=own.get("type_field", events.type_field),
        value_field=own.get("value_field", events.value_field),
        timestamp_field=own.get("timestamp_field", events.timestamp_field),
        id_field=own.get("id_field", events.id_field),
        envelope=own.get("envelope", events.envelope),
        labels=tuple((label, fields.get(label, "")) for label in all_label_names(events, queues)),
        require_timestamp=events.require_timestamp,
    )
