"""A second opinion: what an `EventParser` has to say of a body, by the standard library's `json`, dicts and fractions.

Slow, and only for bodies of up to 4,300 bytes: Python reads no longer numbers.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NoReturn

from exporter.events.event import NANO, Event
from exporter.events.mapping import EventMapping

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT = object()
DEFAULT = EventMapping()


class _Number(str):
    """The text of a JSON number, so that it is not mistaken for a string."""

    __slots__ = ()


class _Rejected(Exception):  # noqa: N818 - it is an answer
    """Says why there is no event."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class _Envelope:
    """What an envelope says of the event in it."""

    kind: str = ""
    event: Any = ABSENT
    type: Any = ABSENT
    times: tuple[Any, ...] = ()
    """From the inner one to the outer one."""
    ids: tuple[bytes, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def reference(
    body: bytes,
    mapping: EventMapping = DEFAULT,
    *,
    attributes: Mapping[str, str] | None = None,
    latest_seconds: float = float("inf"),
) -> Event | str | None:
    """Say what `body` is; None where it is nested too deep for this one."""
    message = _Envelope(attributes=dict(attributes or {}))
    try:
        return _Reference(mapping, latest_seconds).read(_loads(body), mapping.envelope, message)
    except _Rejected as rejected:
        return rejected.reason
    except RecursionError:
        return None


def _loads(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body.decode(), parse_float=_Number, parse_int=_Number, parse_constant=_refuse)
    except ValueError:
        raise _Rejected("invalid_json") from None
    if not isinstance(document, dict):
        raise _Rejected("not_an_object")
    return document


def _refuse(literal: str) -> NoReturn:
    raise ValueError(literal)


@dataclass(frozen=True)
class _Reference:
    mapping: EventMapping
    latest_seconds: float

    def read(self, document: dict[str, Any], wanted: str, around: _Envelope) -> Event:
        """Read a message, or what was in the SNS notification `around`."""
        misfit = None
        if wanted == "none" or (wanted == "auto" and self.mapping.value_field):
            event = self.attempt(document, around)
            if isinstance(event, Event):
                return event
            misfit = event
        envelope = _envelope(document)
        if envelope.kind == "sns" and not around.kind and wanted != "none":
            attributes = {**around.attributes, **envelope.attributes}
            notification = replace(envelope, attributes=attributes)
            return self.read(_loads(_utf8(envelope.event)), "auto" if wanted == "sns" else wanted, notification)
        if envelope.kind in {"eventbridge", "cloudevents"} and wanted in {"auto", envelope.kind}:
            return self.judge(envelope.event, _inside(envelope, around))
        if wanted not in {"auto", "none"}:
            misfit = "not_an_envelope"
        if misfit is None:
            event = self.attempt(document, around)
            if isinstance(event, Event):
                return event
            misfit = event
        raise _Rejected("several_records" if isinstance(document.get("Records"), list) else misfit)

    def attempt(self, document: dict[str, Any], around: _Envelope) -> Event | str:
        """Read a plain event, or say why it could be one in an envelope instead."""
        try:
            return self.judge(document, around)
        except _Rejected as rejected:
            if rejected.reason not in {"missing_field", "invalid_type", "invalid_value"}:
                raise
            return rejected.reason

    def judge(self, document: Any, around: _Envelope) -> Event:  # noqa: ANN401 - whatever JSON can say
        """Apply the rules to the fields, in their order."""
        mapping = self.mapping
        name = _look_up(document, mapping.type_field, around)
        name = around.type if name is ABSENT else name
        value = _look_up(document, mapping.value_field, around) if mapping.value_field else _Number("1")
        if name is ABSENT or value is ABSENT:
            raise _Rejected("missing_field")
        if not _is_text(name) or not _fits(name) or not name:
            raise _Rejected("invalid_type")
        nano = reference_nano(value) if isinstance(value, str) else None
        if nano is None:
            raise _Rejected("invalid_value")
        times = (_look_up(document, mapping.timestamp_field, around, times=True), *around.times)
        time = next((time for time in times if time is not ABSENT and time is not None), None)
        seconds = reference_seconds(time)
        if seconds is not None and seconds > self.latest_seconds:
            seconds = None
        if seconds is None and mapping.require_timestamp:
            raise _Rejected("invalid_timestamp")
        labels = (_label(_look_up(document, path, around)) if path else "" for _, path in mapping.labels)
        return Event((name, *labels), nano, seconds, self.identity(document, around))

    def identity(self, document: Any, around: _Envelope) -> bytes | None:  # noqa: ANN401 - whatever JSON can say
        """Return the digest of the event's own id, else of that of its envelope."""
        if not self.mapping.id_field:
            return None
        own = _look_up(document, self.mapping.id_field, around)
        if isinstance(own, str) and own:
            return _digest(own.encode("utf-8", "surrogatepass"))
        return around.ids[0] if around.ids else None


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16, person=b"event id").digest()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _Rejected("invalid_json") from None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, _Number)


def _ids(*values: Any) -> tuple[bytes, ...]:  # noqa: ANN401 - whatever JSON can say
    if not all(isinstance(value, str) and value for value in values):
        return ()
    *first, last = (value.encode("utf-8", "surrogatepass") for value in values)
    return (_digest(b"".join(str(len(value)).encode() + b":" + value for value in first) + last),)


def _envelope(document: dict[str, Any]) -> _Envelope:
    get = document.get
    if get("Type") == "Notification" and _is_text(get("TopicArn")) and _is_text(get("Message")):
        attributes = get("MessageAttributes")
        values = {
            name: attribute["Value"]
            for name, attribute in (attributes.items() if isinstance(attributes, dict) else ())
            if isinstance(attribute, dict) and "Value" in attribute
        }
        times, ids = (document.get("Timestamp", ABSENT),), _ids(get("MessageId"))
        return _Envelope("sns", document["Message"], times=times, ids=ids, attributes=values)
    if _is_text(get("detail-type")) and "detail" in document:
        times, ids = (document.get("time", ABSENT),), _ids(get("id"))
        return _Envelope("eventbridge", document["detail"], document["detail-type"], times, ids)
    if all(_is_text(get(key)) for key in ("specversion", "type", "source", "id")):
        times, ids = (document.get("time", ABSENT),), _ids(document["source"], document["id"])
        return _Envelope("cloudevents", document.get("data"), document["type"], times, ids)
    return _Envelope()


def _inside(inner: _Envelope, outer: _Envelope) -> _Envelope:
    return replace(
        inner,
        times=(*inner.times, *outer.times),
        ids=(*inner.ids, *outer.ids),
        attributes=outer.attributes,
    )


def _look_up(document: Any, path: str, around: _Envelope, *, times: bool = False) -> Any:  # noqa: ANN401 - JSON
    name = path.removeprefix("attribute:")
    if name != path:
        value = around.attributes.get(name, ABSENT)
        is_unix_time = times and _is_text(value) and re.fullmatch(_NUMBER, value) and len(json.dumps(value)) <= 212
        return _Number(value) if is_unix_time else value
    for key in re.findall(r'[^."]+|"[^"]*"', path):
        document = document.get(key.strip('"'), ABSENT) if isinstance(document, dict) else ABSENT
    return document


def _fits(value: str) -> bool:
    wrong = any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)
    return len(value) <= 128 and not value.startswith("__") and not wrong


def _label(value: object) -> str:
    if value is ABSENT or value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else value
    return text if isinstance(text, str) and _fits(text) else "__invalid__"


_NUMBER = r"(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)(?:[eE]([+-]?[0-9]+))?"


def _exact(text: str) -> Fraction | None:
    match = re.fullmatch(_NUMBER, text)
    if match is None:
        return None
    # Beyond 10,000 the digits of a body of a test no longer make up for the exponent.
    exponent = max(-10_000, min(int(match[2] or 0), 10_000))
    return Fraction(match[1]) * Fraction(10) ** exponent


def reference_nano(text: str) -> int | None:
    """Round the number in `text` half-even to 1e-9 by means of fractions; None where it is not a value."""
    exact = _exact(text)
    return None if exact is None or abs(exact) > 10**15 else round(exact * NANO)


_DATE = r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
_COMPACT = r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(?:(\d\d)(?:[.,](\d{1,9}))?)?"
_OFFSET = r"(?:Z|([+-])(\d\d)(?::?(\d\d))?)?"


def reference_seconds(value: object) -> float | None:
    """Return the Unix time that a JSON value is, None where it is not one."""
    if not isinstance(value, str):
        return None
    if isinstance(value, _Number):
        return _unix_number(value)
    match = next((found for form in (_DATE, _COMPACT) if (found := re.fullmatch(form + _OFFSET, value.upper()))), None)
    if match is None or not value.isascii():
        return None
    year, month, day, hour, minute, second = (int(match[group] or 0) for group in range(1, 7))
    microsecond = int((match[7] or "").ljust(6, "0")[:6])
    sign = -1 if match[8] == "-" else 1
    offset = sign * timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    try:
        moment = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=timezone(offset))
    except ValueError:
        return None
    return moment.timestamp()


def _unix_number(text: str) -> float | None:
    exact = _exact(text) if len(text) <= 212 else None
    if exact is None or abs(exact) >= 10**30:
        return None
    size = abs(exact)
    unit = 1 if size < 10**11 else 10**3 if size < 10**14 else 10**6 if size < 10**17 else 10**9
    seconds = float(exact / unit)
    return seconds if seconds >= datetime(1, 1, 1, tzinfo=UTC).timestamp() - 86_400 else None
