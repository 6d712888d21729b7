"""Answers of SQS, strictly parsed: one that is not well formed is an error, never an empty queue.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html
"""

from __future__ import annotations

import binascii
import json
from functools import lru_cache
from hashlib import md5
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from exporter.sqs.answers import NO_ATTRIBUTES, Message
from exporter.sqs.reasons import reason_of_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTHING_RELEASED: Mapping[str, int] = MappingProxyType({})
NOTHING_REFUSED: Mapping[str, str] = MappingProxyType({})

_REQUIRED = ("MessageId", "ReceiptHandle", "Body", "MD5OfBody")
_REQUIRED_WITH_ATTRIBUTES = (*_REQUIRED, "MessageAttributes", "MD5OfMessageAttributes")
_NAMES_OF_ERRORS = frozenset({"__type", "code", "error", "errors", "message"})
_SENDER_FAULT, _OWN_FAULT = 400, 500
_SHORT_BYTES = 1024


class MalformedAnswerError(ValueError):
    """The answer is not what SQS answers."""


class _SystemAttributes(msgspec.Struct, gc=False):
    sent_timestamp: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = msgspec.field(
        name="SentTimestamp", default=None
    )
    aws_trace_header: str | None = msgspec.field(name="AWSTraceHeader", default=None)


class _Attribute(msgspec.Struct, gc=False):
    data_type: str = msgspec.field(name="DataType", default="")
    text: str | None = msgspec.field(name="StringValue", default=None)
    binary: str | None = msgspec.field(name="BinaryValue", default=None)


class _Delivery(msgspec.Struct, gc=False):
    # An id that is empty would make two messages one; an empty handle deletes nothing.
    message_id: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="MessageId")
    receipt_handle: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="ReceiptHandle")
    body: str = msgspec.field(name="Body")
    md5_of_body: str = msgspec.field(name="MD5OfBody")
    system: _SystemAttributes | None = msgspec.field(name="Attributes", default=None)
    attributes: dict[str, _Attribute] | None = msgspec.field(name="MessageAttributes", default=None)
    md5_of_attributes: str | None = msgspec.field(name="MD5OfMessageAttributes", default=None)


class _ReceiveAnswer(msgspec.Struct, gc=False):
    messages: list[_Delivery] | None = msgspec.field(name="Messages", default=None)


class _Entry(msgspec.Struct, gc=False):
    id: str = msgspec.field(name="Id")
    code: str | None = msgspec.field(name="Code", default=None)
    sender_fault: bool | None = msgspec.field(name="SenderFault", default=None)


class _BatchAnswer(msgspec.Struct, gc=False):
    successful: list[_Entry] | None = msgspec.field(name="Successful", default=None)
    failed: list[_Entry] | None = msgspec.field(name="Failed", default=None)


# Not strict: SentTimestamp is a number in a string.
_receive_decoder = msgspec.json.Decoder(_ReceiveAnswer, strict=False)
_batch_decoder = msgspec.json.Decoder(_BatchAnswer)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_receive(data: bytes, attribute_names: Sequence[str] = ()) -> tuple[list[Message], Mapping[str, int]]:
    """Return the messages of a ReceiveMessage answer, and how many were released for which reason.

    Released are a message whose body or attributes don't have the MD5 that the answer says ("md5_mismatch") and one
    without a usable id, receipt handle, body, attributes or MD5 ("malformed"). Attributes are looked at only where
    some were asked for by name. A body with lone surrogates comes as bytes that are not UTF-8.
    Raises MalformedAnswerError where the answer as a whole is not SQS's.
    """
    try:
        deliveries = _receive_decoder.decode(data).messages
    except RecursionError as error:
        raise MalformedAnswerError("nested too deep") from error
    except ValueError:
        return _parse_one_by_one(data, attribute_names)
    if deliveries:
        return _checked(deliveries, attribute_names)
    _refuse_hidden_error(data)
    return [], NOTHING_RELEASED


def parse_batch(data: bytes) -> tuple[frozenset[str], Mapping[str, str]]:
    """Return the ids that the answer to a batch request confirms, and those that it refuses, with the reason.

    An id that is in both lists is refused. Raises MalformedAnswerError where the answer is not SQS's.
    """
    return _parse_short_batch(data) if len(data) <= _SHORT_BYTES else _parse_batch(data)


def _parse_batch(data: bytes) -> tuple[frozenset[str], Mapping[str, str]]:
    try:
        answer = _batch_decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError("not an answer to a batch request") from error
    confirmed = frozenset(entry.id for entry in answer.successful or ())
    if not answer.failed:
        return confirmed, NOTHING_REFUSED
    refused = {
        entry.id: reason_of_error(_OWN_FAULT if entry.sender_fault is False else _SENDER_FAULT, (entry.code or "",))
        for entry in answer.failed
    }
    return confirmed.difference(refused), MappingProxyType(refused)


_parse_short_batch = lru_cache(maxsize=64)(_parse_batch)
"""The same for answers of up to `_SHORT_BYTES`: the one that confirms ten deletes comes again and again."""


def _checked(
    deliveries: Sequence[_Delivery], attribute_names: Sequence[str]
) -> tuple[list[Message], Mapping[str, int]]:
    messages = []
    released: dict[str, int] = {}
    for delivery in deliveries:
        try:
            body = delivery.body.encode()
        except UnicodeEncodeError:
            # SQS took its MD5 of bytes that can't be told from here; the event parser rejects these.
            body = delivery.body.encode("utf-8", "surrogatepass")
        else:
            if md5(body, usedforsecurity=False).hexdigest() != delivery.md5_of_body:
                released["md5_mismatch"] = released.get("md5_mismatch", 0) + 1
                continue
        system, given = delivery.system, delivery.attributes
        attributes, trace_parent, trace_state = NO_ATTRIBUTES, None, None
        if given:
            if attribute_names:
                reason = _fault_of_attributes(given, delivery.md5_of_attributes)
                if reason is not None:
                    released[reason] = released.get(reason, 0) + 1
                    continue
                attributes = {name: text for name in attribute_names if (text := _text(given, name)) is not None}
            trace_parent, trace_state = _text(given, "traceparent"), _text(given, "tracestate")
        messages.append(
            Message(
                delivery.message_id,
                delivery.receipt_handle,
                body,
                None if system is None or system.sent_timestamp is None else system.sent_timestamp / 1000,
                trace_parent,
                trace_state,
                None if system is None else system.aws_trace_header,
                attributes,
            )
        )
    return messages, released or NOTHING_RELEASED


def md5_of_attributes(attributes: Mapping[str, tuple[str, str | bytes]]) -> str:
    """Return the MD5 that SQS gives message attributes: by name their data type and value, text or bytes.

    A receive's covers the attributes that it returns, no others.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html#sqs-attributes-md5-message-digest-calculation
    """
    digest = md5(usedforsecurity=False)
    for name, (data_type, value) in sorted(attributes.items()):
        transport, data = (b"\x01", value.encode()) if isinstance(value, str) else (b"\x02", value)
        for part in (name.encode(), data_type.encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        digest.update(transport + len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


def _fault_of_attributes(given: Mapping[str, _Attribute], digest: str | None) -> str | None:
    """Return the reason for which a message's attributes can't be used, None where nothing is wrong with them."""
    if digest is None:
        return "malformed"
    try:
        values = {name: (one.data_type, _value(one)) for name, one in given.items()}
        return None if md5_of_attributes(values) == digest else "md5_mismatch"
    except ValueError:
        return "malformed"


def _value(attribute: _Attribute) -> str | bytes:
    if attribute.text is not None:
        return attribute.text
    if attribute.binary is None:
        raise ValueError("neither text nor bytes")
    return binascii.a2b_base64(attribute.binary, strict_mode=True)


def _text(given: Mapping[str, _Attribute], name: str) -> str | None:
    attribute = given.get(name)
    return None if attribute is None else attribute.text


def _parse_one_by_one(data: bytes, attribute_names: Sequence[str]) -> tuple[list[Message], Mapping[str, int]]:
    """Parse what the fast parser refuses, so that one bad message affects none of its neighbours."""
    try:
        # An invalid byte becomes a lone surrogate, which spoils the message that holds it and no other.
        answer = json.loads(data.decode("utf-8", "surrogateescape"))
        entries = answer.get("Messages")
        if not isinstance(entries, list):
            raise MalformedAnswerError("Messages is not a list")
    except (ValueError, AttributeError, RecursionError) as error:
        raise MalformedAnswerError("not an answer of ReceiveMessage") from error
    needed = _REQUIRED_WITH_ATTRIBUTES if attribute_names else _REQUIRED
    deliveries = [delivery for entry in entries if (delivery := _delivery(entry, needed)) is not None]
    messages, released = _checked(deliveries, attribute_names)
    malformed = len(entries) - len(deliveries)
    return messages, {**released, "malformed": malformed + released.get("malformed", 0)} if malformed else released


def _delivery(entry: Any, needed: Sequence[str]) -> _Delivery | None:  # noqa: ANN401 - whatever a JSON array can hold
    try:
        delivery = msgspec.convert(entry, _Delivery, strict=False)
    except msgspec.ValidationError:
        try:
            # Without the rest: what is wrong with what nobody needs does not make the message unusable.
            delivery = msgspec.convert({name: entry[name] for name in needed if name in entry}, _Delivery)
        except (msgspec.ValidationError, TypeError, LookupError):
            return None
    try:
        delivery.message_id.encode()
        delivery.receipt_handle.encode()
    except UnicodeEncodeError:
        return None
    return delivery


def _refuse_hidden_error(data: bytes) -> None:
    """Raise where an object without messages is an error report with the wrong status rather than an empty answer."""
    if data == b"{}":
        return
    try:
        names = _object_decoder.decode(data)
    except ValueError as error:
        raise MalformedAnswerError("a field has no readable name") from error
    if any(name.lower() in _NAMES_OF_ERRORS for name in names):
        raise MalformedAnswerError("an error report instead of messages")
