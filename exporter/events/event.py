"""What an event is: `EventParser.parse` turns the body of a message into an `Event`, or raises `InvalidEvent`.

Pure: no I/O. Everything here is linear in the size of the body and bounded before it is converted, because the body is
a stranger's.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from exporter.errors import InvalidEvent
from exporter.events.envelope import Envelope, EnvelopeReader, content, event_id, is_there
from exporter.events.fields import FieldReader, attribute_name, kind_of
from exporter.events.labels import SHORT_BYTES as SHORT_SERIES_BYTES
from exporter.events.labels import check_label_names, series, short_series
from exporter.events.mapping import CONSTANTS, EventMapping, MappedFields
from exporter.events.number import NANO, short_value_nano, value_nano
from exporter.events.number import SHORT_BYTES as SHORT_VALUE_BYTES
from exporter.events.timestamp import LONGEST_BYTES as LONGEST_TIMESTAMP_BYTES
from exporter.events.timestamp import bare_number, unix_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.events.envelope import EnvelopeName
    from exporter.events.mapping import Texts

__all__ = ["MAX_BODY_BYTES", "NANO", "REASONS", "Event", "EventMapping", "EventParser"]

MAX_BODY_BYTES = 1_048_576
"""SQS's own limit. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

MAX_AHEAD_SECONDS = 300
"""A timestamp further ahead than this is a wrong clock, not a time at which something occurred."""

REASONS = (
    "too_large",
    "invalid_json",
    "not_an_object",
    "several_records",
    "not_an_envelope",
    "missing_field",
    "invalid_type",
    "invalid_value",
    "invalid_timestamp",
)
"""Why a message is not an event, in the order in which they are looked for: the first one found is the reason."""

_Misfit = tuple[str, str, str]
"""Why something is not an event, as in `InvalidEvent`, where one may be in an envelope all the same.

Not raised: each message in an envelope would pay for it.
"""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event.

    `series` is its type and the values of the configured labels, in their order. `value_nano` is the value as a whole
    number of 1e-9, rounded half-even. `occurred_at_seconds` is Unix time, None where the message has no usable
    timestamp (it is counted all the same). `event_id` is a digest of 16 bytes of the event's own id, None where none
    is configured or the message has none.
    """

    # A frozen dataclass takes six times as long to make, and there is one for every message.
    series: tuple[str, ...]
    value_nano: int
    occurred_at_seconds: float | None
    event_id: bytes | None = None

    @property
    def type(self) -> str:
        """The event's type."""
        return self.series[0]


_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class EventParser:
    """Reads events by one mapping, which is compiled once. Raises ValueError where a field of the mapping is wrong."""

    def __init__(self, mapping: EventMapping) -> None:
        check_label_names([name for name, _ in mapping.labels])
        self._mapping = mapping
        self._labelled = bool(mapping.labels)
        self._identified = bool(mapping.id_field)
        self._counts_only = not mapping.value_field
        self._plain_first = mapping.envelope == "none" or (mapping.envelope == "auto" and not self._counts_only)
        fields = MappedFields(mapping)
        self.attribute_names = fields.attribute_names
        """The message attributes that the mapping wants."""
        self._arrange = fields.arrange
        self._reader = FieldReader(fields.paths)
        self._envelopes = EnvelopeReader(fields.attribute_names)
        self._timestamp_is_attribute = attribute_name(mapping.timestamp_field) is not None

    def parse(
        self,
        body: bytes,
        sent_at_seconds: float | None,
        now_seconds: float,
        attributes: Mapping[str, str] = _NO_ATTRIBUTES,
    ) -> Event:
        """Read one message; raises nothing but `InvalidEvent`, with one of `REASONS`.

        `attributes` are the message's own, by name. A timestamp may be at most 5 minutes later than when SQS took the
        message in (`sent_at_seconds`, or where that is unknown `now_seconds`). Without `require_timestamp` an absent,
        unreadable or later one leaves the event without a time.
        """
        if len(body) > MAX_BODY_BYTES:
            raise InvalidEvent("too_large")
        latest = (now_seconds if sent_at_seconds is None else sent_at_seconds) + MAX_AHEAD_SECONDS
        misfit = None
        if self._plain_first:
            # As in _unwrapped, without its call: this is the way of every plain event.
            texts = self._reader.read(body)
            if self._arrange is not None:
                texts = self._arranged(texts, None, attributes)
            found = self._event(texts, latest)
            if isinstance(found, Event):
                return found
            misfit = found
        return self._wrapped(body, self._mapping.envelope, None, misfit, latest, attributes)

    def _wrapped(  # noqa: PLR0913, PLR0917 - what is known so far of the message
        self,
        body: bytes,
        wanted: EnvelopeName,
        outer: Envelope | None,
        misfit: _Misfit | None,
        latest: float,
        attributes: Mapping[str, str],
    ) -> Event:
        """Read the event in the envelope that `body` is: a message, or what was in the SNS notification `outer`.

        `misfit` says why `body` itself is not an event, None where that was not asked.
        """
        found = self._envelopes.read(body)
        if isinstance(found, Envelope) and wanted != "none":
            if found.kind == "sns" and outer is None:
                return self._notified(found, "auto" if wanted == "sns" else wanted, latest, attributes)
            if found.kind != "sns" and wanted in {"auto", found.kind}:
                # What is in an envelope may be something else than an object: then it has no fields.
                texts = self._reader.read(found.event) if found.event.startswith(b"{") else self._reader.absent
                event = self._event_in(found.within(outer), self._arranged(texts, outer, attributes), latest)
                if isinstance(event, Event):
                    return event
                raise InvalidEvent(*event)
        if misfit is None and wanted != "auto":
            misfit = ("not_an_envelope", "", "")
        if misfit is None:
            event = self._unwrapped(body, outer, latest, attributes)
            if isinstance(event, Event):
                return event
            misfit = event
        if found == "records":
            misfit = ("several_records", "Records", "array")
        raise InvalidEvent(*misfit)

    def _notified(
        self, notification: Envelope, wanted: EnvelopeName, latest: float, attributes: Mapping[str, str]
    ) -> Event:
        """Read the event that was published to an SNS topic, which may be wrapped itself."""
        body = _message(notification)
        misfit = None
        if wanted == "auto" and not self._counts_only:
            event = self._unwrapped(body, notification, latest, attributes)
            if isinstance(event, Event):
                return event
            misfit = event
        return self._wrapped(body, wanted, notification, misfit, latest, attributes)

    def _unwrapped(
        self, body: bytes, notification: Envelope | None, latest: float, attributes: Mapping[str, str]
    ) -> Event | _Misfit:
        """Read `body` as an event without a further envelope."""
        texts = self._arranged(self._reader.read(body), notification, attributes)
        return self._event(texts, latest) if notification is None else self._event_in(notification, texts, latest)

    def _arranged(self, texts: Texts, outer: Envelope | None, attributes: Mapping[str, str]) -> Texts:
        if self._arrange is None:
            return texts
        texts = self._arrange((*texts, *self._attributes(outer, attributes), *CONSTANTS))
        if self._timestamp_is_attribute:
            return (*texts[:2], bare_number(bytes(texts[2])), *texts[3:])
        return texts

    def _attributes(self, notification: Envelope | None, attributes: Mapping[str, str]) -> list[bytes]:
        """Return the wanted message attributes as JSON strings, those of the notification first."""
        own = [_attribute(attributes, name) for name in self.attribute_names]
        if notification is None:
            return own
        return [notified or text for notified, text in zip(notification.attributes, own, strict=True)]

    def _event(self, texts: Texts, latest: float) -> Event | _Misfit:
        """Judge the texts, in the order of `MappedFields`. Raises InvalidEvent, `invalid_timestamp`."""
        type_text, value_text, timestamp_text = bytes(texts[0]), bytes(texts[1]), bytes(texts[2])
        if not type_text or not value_text:
            field = self._mapping.value_field if type_text else self._mapping.type_field
            return "missing_field", field, "absent"
        if self._labelled:
            labels = [bytes(text) for text in texts[4:]]
            short = len(type_text) + sum(map(len, labels)) <= SHORT_SERIES_BYTES
            key = short_series(type_text, *labels) if short else series(type_text, *labels)
        else:
            key = short_series(type_text) if len(type_text) <= SHORT_SERIES_BYTES else series(type_text)
        if key is None:
            return "invalid_type", self._mapping.type_field, kind_of(type_text)
        nano = short_value_nano(value_text) if len(value_text) <= SHORT_VALUE_BYTES else value_nano(value_text)
        if nano is None:
            return "invalid_value", self._mapping.value_field, kind_of(value_text)
        seconds = unix_seconds(timestamp_text) if len(timestamp_text) <= LONGEST_TIMESTAMP_BYTES else None
        if seconds is None or seconds > latest:
            seconds = None
            if self._mapping.require_timestamp:
                raise InvalidEvent("invalid_timestamp", self._mapping.timestamp_field, kind_of(timestamp_text))
        return Event(key, nano, seconds, event_id([bytes(texts[3])])) if self._identified else Event(key, nano, seconds)

    def _event_in(self, envelope: Envelope, texts: Texts, latest: float) -> Event | _Misfit:
        """Judge the texts, and take what the event has not from the envelope."""
        type_is_missing, time_is_missing = not texts[0], not is_there(bytes(texts[2]))
        if type_is_missing and envelope.type[1]:
            texts = (envelope.type[1], *texts[1:])
        if time_is_missing:
            texts = (*texts[:2], envelope.timestamp[1], *texts[3:])
        try:
            found = self._event(texts, latest)
        except InvalidEvent as invalid:
            name = envelope.timestamp[0] if time_is_missing else invalid.field
            raise InvalidEvent(invalid.reason, name, invalid.kind) from None
        if not isinstance(found, Event):
            reason, name, kind = found
            return reason, envelope.type[0] if type_is_missing and reason == "invalid_type" else name, kind
        if self._identified and found.event_id is None:
            identity = next(filter(None, map(event_id, envelope.ids)), None)
            return Event(found.series, found.value_nano, found.occurred_at_seconds, identity)
        return found


def _attribute(attributes: Mapping[str, str], name: str) -> bytes:
    """Return a message attribute as a JSON string, nothing where the message hasn't got it."""
    value = attributes.get(name)
    return b"" if value is None else json.dumps(value).encode()


def _message(notification: Envelope) -> bytes:
    """Return what was published, as raw delivery would have brought it."""
    try:
        message = content(notification.event)
        message.decode()
    except ValueError:
        raise InvalidEvent("invalid_json", "Message", "string") from None
    return message
