"""What an event may be wrapped in: an SNS notification, an EventBridge event or a CloudEvent, recognised by its keys.

- SNS: https://docs.aws.amazon.com/sns/latest/dg/http-notification-json.html
- EventBridge: https://docs.aws.amazon.com/eventbridge/latest/ref/events-structure.html
- CloudEvents in structured mode: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import msgspec

from exporter.events.fields import FieldReader

if TYPE_CHECKING:
    from collections.abc import Sequence

EnvelopeName = Literal["auto", "none", "sns", "eventbridge", "cloudevents"]

_KEYS = (
    *("Type", "TopicArn", "Message", "Timestamp", "MessageId"),
    *("detail-type", "detail", "time", "id"),
    *("specversion", "type", "source", "data"),
    "Records",
)
_TYPE, _TOPIC, _MESSAGE, _TIMESTAMP, _MESSAGE_ID, _DETAIL_TYPE, _DETAIL, _TIME, _ID = range(9)
_VERSION, _NAME, _SOURCE, _DATA, _RECORDS = range(9, len(_KEYS))

_decode_string = msgspec.json.Decoder(str).decode


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What was found around an event. Texts are JSON texts, empty where the envelope has none."""

    kind: Literal["sns", "eventbridge", "cloudevents"]
    event: bytes
    timestamp: tuple[str, bytes]
    """Its key and its text."""
    type: tuple[str, bytes] = ("", b"")
    ids: tuple[tuple[bytes, ...], ...] = ()
    """What may identify the event, the nearest first: texts that do so together."""
    attributes: tuple[bytes, ...] = ()
    """The values of the wanted message attributes."""

    def within(self, outer: Envelope | None) -> Envelope:
        """Return this envelope with what it lacks from the one around it."""
        if outer is None:
            return self
        return Envelope(
            self.kind,
            self.event,
            self.timestamp if is_there(self.timestamp[1]) else outer.timestamp,
            self.type,
            (*self.ids, *outer.ids),
            outer.attributes,
        )


class EnvelopeReader:
    """Recognises the envelopes, and reads the message attributes of SNS notifications by their names."""

    def __init__(self, attribute_names: Sequence[str]) -> None:
        paths = [(key,) for key in _KEYS]
        self._reader = FieldReader([*paths, *(("MessageAttributes", name, "Value") for name in attribute_names)])

    def read(self, body: bytes) -> Envelope | Literal["records"] | None:
        """Return the envelope in `body`, `records` where it is a list of events instead, or None.

        Raises InvalidEvent, `invalid_json` or `not_an_object`.
        """
        texts = self._reader.read(body)
        if bytes(texts[_TYPE]) == b'"Notification"' and _are_strings(texts[_TOPIC], texts[_MESSAGE]):
            return Envelope(
                "sns",
                bytes(texts[_MESSAGE]),
                ("Timestamp", bytes(texts[_TIMESTAMP])),
                ids=((bytes(texts[_MESSAGE_ID]),),),
                attributes=tuple(map(bytes, texts[len(_KEYS) :])),
            )
        if texts[_DETAIL] and _are_strings(texts[_DETAIL_TYPE]):
            type_text, time, id_text = bytes(texts[_DETAIL_TYPE]), bytes(texts[_TIME]), bytes(texts[_ID])
            return Envelope(
                "eventbridge", bytes(texts[_DETAIL]), ("time", time), ("detail-type", type_text), ((id_text,),)
            )
        if texts[_VERSION] and _are_strings(texts[_VERSION], texts[_NAME], texts[_SOURCE], texts[_ID]):
            name, time, ids = bytes(texts[_NAME]), bytes(texts[_TIME]), (bytes(texts[_SOURCE]), bytes(texts[_ID]))
            return Envelope("cloudevents", bytes(texts[_DATA]), ("time", time), ("type", name), (ids,))
        return "records" if bytes(texts[_RECORDS]).startswith(b"[") else None


def _are_strings(*texts: bytes | msgspec.Raw) -> bool:
    return all(bytes(text).startswith(b'"') for text in texts)


def is_there(text: bytes) -> bool:
    """Whether the JSON text is there and isn't null, which says the same."""
    return text not in {b"", b"null"}


def content(text: bytes) -> bytes:
    """Return what is in a JSON string, in UTF-8; half a surrogate pair as if UTF-8 had it."""
    if b"\\" not in text:
        return text[1:-1]
    try:
        return _decode_string(text).encode()
    except msgspec.DecodeError:
        value: str = json.loads(text)
        return value.encode("utf-8", "surrogatepass")


def event_id(texts: Sequence[bytes]) -> bytes | None:
    """Return the digest of the JSON strings or numbers that identify an event together.

    None where one of them is neither, or empty.
    """
    parts = [content(text) if text.startswith(b'"') else text for text in texts]
    if not all(parts) or any(text.startswith((b"{", b"[", b"t", b"f", b"n")) for text in texts):
        return None
    # Each but the last is told with its length, or "a" and "bc" would be "ab" and "c".
    told = [b"%d:%b" % (len(part), part) for part in parts[:-1]]
    return blake2b(b"".join([*told, *parts[-1:]]), digest_size=16, person=b"event id").digest()
