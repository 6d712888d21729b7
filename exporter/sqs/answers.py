"""What SQS answered, strictly parsed: an answer that is not well formed is an error, never an empty queue.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import md5
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from exporter.sqs.reasons import reason_of_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTHING_RELEASED: Mapping[str, int] = MappingProxyType({})

_REQUIRED = ("MessageId", "ReceiptHandle", "Body", "MD5OfBody")
_NAMES_OF_ERRORS = frozenset({"__type", "code", "error", "errors", "message"})
_SENDER_FAULT, _OWN_FAULT = 400, 500

Operation = Literal["receive", "delete"]


class MalformedAnswerError(ValueError):
    """The answer is not what SQS answers."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One delivery of a message. `repr` shows its id alone."""

    message_id: str
    receipt_handle: str
    body: bytes
    sent_at_seconds: float | None
    """Unix time at which the producer sent it, None where SQS did not say."""
    trace_parent: str | None
    trace_state: str | None
    aws_trace_header: str | None

    def __repr__(self) -> str:
        return f"Message({self.message_id!r})"


class Deletion(msgspec.Struct, gc=False):
    """One message to delete. `repr` does not show its receipt handle."""

    message_id: bytes
    """The ledger's id, 16 bytes."""
    receipt_handle: str
    valid_until: float
    """Monotonic time until which the handle can be trusted to delete."""
    refused: bool = False
    """Whether SQS refused it once, while it deleted others of the same batch."""

    def __repr__(self) -> str:
        return f"Deletion({self.message_id.hex()})"


@dataclass(slots=True)
class Received:
    """A well-formed answer to a receive. Times are monotonic seconds."""

    messages: Sequence[Message]
    released: Mapping[str, int]
    """How many messages of the answer can't be used, by reason: "md5_mismatch" or "malformed"."""
    sent_at: float
    answered_at: float


@dataclass(slots=True)
class Deleted:
    """A well-formed answer to a batch delete. Times are monotonic seconds."""

    confirmed: Sequence[Deletion]
    """Those that the answer names as deleted: nothing else is."""
    failed: Sequence[tuple[Deletion, str]]
    """The others, each with a reason of `exporter.sqs.REASONS`."""
    sent_at: float
    answered_at: float


@dataclass(slots=True)
class Failed:
    """A call without a well-formed answer. Times are monotonic seconds."""

    operation: Operation
    reason: str
    """One of `exporter.sqs.REASONS`."""
    detail: str
    """One sentence of at most 200 printable characters, without secrets, bodies and receipt handles."""
    deletions: Sequence[Deletion]
    """What a batch delete was asked to delete; SQS may have deleted it or not."""
    sent_at: float
    answered_at: float


Answer = Received | Deleted | Failed


class _Text(msgspec.Struct, gc=False):
    value: str | None = msgspec.field(name="StringValue", default=None)


class _SystemAttributes(msgspec.Struct, gc=False):
    sent_timestamp: str | int | None = msgspec.field(name="SentTimestamp", default=None)
    aws_trace_header: str | None = msgspec.field(name="AWSTraceHeader", default=None)


class _MessageAttributes(msgspec.Struct, gc=False):
    trace_parent: _Text | None = msgspec.field(name="traceparent", default=None)
    trace_state: _Text | None = msgspec.field(name="tracestate", default=None)


class _Delivery(msgspec.Struct, gc=False):
    # An id that is empty would make two messages one; an empty handle deletes nothing.
    message_id: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="MessageId")
    receipt_handle: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="ReceiptHandle")
    body: str = msgspec.field(name="Body")
    md5_of_body: str = msgspec.field(name="MD5OfBody")
    attributes: _SystemAttributes | None = msgspec.field(name="Attributes", default=None)
    message_attributes: _MessageAttributes | None = msgspec.field(name="MessageAttributes", default=None)


class _ReceiveAnswer(msgspec.Struct, gc=False):
    messages: list[_Delivery] | None = msgspec.field(name="Messages", default=None)


class _Confirmed(msgspec.Struct, gc=False):
    id: str = msgspec.field(name="Id")


class _Refused(msgspec.Struct, gc=False):
    id: str = msgspec.field(name="Id")
    code: str | None = msgspec.field(name="Code", default=None)
    sender_fault: bool | None = msgspec.field(name="SenderFault", default=None)


class _DeleteAnswer(msgspec.Struct, gc=False):
    successful: list[_Confirmed] | None = msgspec.field(name="Successful", default=None)
    failed: list[_Refused] | None = msgspec.field(name="Failed", default=None)


_receive_decoder = msgspec.json.Decoder(_ReceiveAnswer)
_delete_decoder = msgspec.json.Decoder(_DeleteAnswer)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_receive(data: bytes) -> tuple[list[Message], Mapping[str, int]]:
    """Return the messages of a ReceiveMessage answer, and how many were released for which reason.

    Released are a message whose body does not have the MD5 that the answer says ("md5_mismatch") and one without a
    usable id, receipt handle, body or MD5 ("malformed"). A body with lone surrogates comes as bytes that are not UTF-8.
    Raises MalformedAnswerError where the answer as a whole is not SQS's.
    """
    try:
        deliveries = _receive_decoder.decode(data).messages
    except RecursionError as error:
        raise MalformedAnswerError("nested too deep") from error
    except ValueError:
        return _parse_one_by_one(data)
    if deliveries:
        return _checked(deliveries)
    _refuse_hidden_error(data)
    return [], NOTHING_RELEASED


def parse_delete(data: bytes) -> tuple[set[str], dict[str, str]]:
    """Return the ids that a DeleteMessageBatch answer confirms, and those that it refuses, with the reason.

    An id that is in both lists is refused. Raises MalformedAnswerError where the answer is not SQS's.
    """
    try:
        answer = _delete_decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError("not an answer of DeleteMessageBatch") from error
    confirmed = {entry.id for entry in answer.successful or ()}
    if not answer.failed:
        return confirmed, {}
    refused = {
        entry.id: reason_of_error(_OWN_FAULT if entry.sender_fault is False else _SENDER_FAULT, (entry.code or "",))
        for entry in answer.failed
    }
    return confirmed.difference(refused), refused


def _checked(deliveries: Sequence[_Delivery]) -> tuple[list[Message], Mapping[str, int]]:
    messages = []
    mismatches = 0
    for delivery in deliveries:
        try:
            body = delivery.body.encode()
        except UnicodeEncodeError:
            # SQS took its MD5 of bytes that can't be told from here; the event parser rejects these.
            body = delivery.body.encode("utf-8", "surrogatepass")
        else:
            if md5(body, usedforsecurity=False).hexdigest() != delivery.md5_of_body:
                mismatches += 1
                continue
        system, attributes = delivery.attributes, delivery.message_attributes
        messages.append(
            Message(
                delivery.message_id,
                delivery.receipt_handle,
                body,
                None if system is None else _seconds(system.sent_timestamp),
                attributes.trace_parent.value if attributes and attributes.trace_parent else None,
                attributes.trace_state.value if attributes and attributes.trace_state else None,
                None if system is None else system.aws_trace_header,
            )
        )
    return messages, {"md5_mismatch": mismatches} if mismatches else NOTHING_RELEASED


def _parse_one_by_one(data: bytes) -> tuple[list[Message], Mapping[str, int]]:
    """Parse what the fast parser refuses, so that one bad message affects none of its neighbours."""
    try:
        # An invalid byte becomes a lone surrogate, which spoils the message that holds it and no other.
        answer = json.loads(data.decode("utf-8", "surrogateescape"))
        entries = answer.get("Messages")
        if not isinstance(entries, list):
            raise MalformedAnswerError("Messages is not a list")
    except (ValueError, AttributeError, RecursionError) as error:
        raise MalformedAnswerError("not an answer of ReceiveMessage") from error
    deliveries = [delivery for entry in entries if (delivery := _delivery(entry)) is not None]
    messages, released = _checked(deliveries)
    malformed = len(entries) - len(deliveries)
    return messages, {**released, "malformed": malformed} if malformed else released


def _delivery(entry: Any) -> _Delivery | None:  # noqa: ANN401 - whatever a JSON array can hold
    try:
        delivery = msgspec.convert(entry, _Delivery)
    except msgspec.ValidationError:
        try:
            # Without the attributes: what is wrong with them does not make the message unusable.
            delivery = msgspec.convert({name: entry[name] for name in _REQUIRED}, _Delivery)
        except (msgspec.ValidationError, TypeError, LookupError):
            return None
    try:
        delivery.message_id.encode()
        delivery.receipt_handle.encode()
    except UnicodeEncodeError:
        return None
    return delivery


def _seconds(milliseconds: str | int | None) -> float | None:
    if milliseconds is None:
        return None
    try:
        return int(milliseconds) / 1000
    except (ValueError, OverflowError):
        return None


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
