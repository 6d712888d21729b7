"""What SQS answered: messages, and what became of batch requests."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})

Operation = Literal["receive", "delete", "change_visibility"]


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
    attributes: Mapping[str, str] = NO_ATTRIBUTES
    """The message attributes that were asked for by name, as text; binary ones are left out."""

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


class Received(msgspec.Struct, gc=False):
    """A well-formed answer to a receive. Times are monotonic seconds."""

    queue: str
    """Its name."""
    messages: Sequence[Message]
    released: Mapping[str, int]
    """How many messages of the answer can't be used, by reason: "md5_mismatch" or "malformed"."""
    sent_at: float
    answered_at: float
    visibility_timeout_seconds: int
    """What the receive asked for: from `sent_at` on, the receipt handles can be trusted for so long."""
    allowed_seconds: float
    """What the request was allowed to take at most. `answered_at` is later where the process was paused."""
    headers: Sequence[bytes] = ()
    """The answer's raw header lines, where trace context was asked for; in the answers below, too."""


class BatchAnswer(msgspec.Struct, gc=False):
    """A well-formed answer to a batch request. Times are monotonic seconds."""

    queue: str
    """Its name."""
    confirmed: Sequence[Deletion]
    """Those that the answer names as successful: nothing else is."""
    failed: Sequence[tuple[Deletion, str]]
    """The others, each with a reason of `exporter.sqs.REASONS`."""
    sent_at: float
    answered_at: float
    headers: Sequence[bytes] = ()


class Deleted(BatchAnswer, gc=False):
    """A well-formed answer to a batch delete."""


class ChangedVisibility(BatchAnswer, gc=False):
    """A well-formed answer to a request that messages become visible again at once."""


class Failed(msgspec.Struct, gc=False):
    """A request without a well-formed answer. Times are monotonic seconds."""

    queue: str
    """Its name."""
    operation: Operation
    reason: str
    """One of `exporter.sqs.REASONS`."""
    detail: str
    """One sentence of at most 200 printable characters, without secrets, bodies and receipt handles."""
    deletions: Sequence[Deletion]
    """The entries of a batch request; SQS may have done what was asked or not."""
    sent_at: float
    answered_at: float
    headers: Sequence[bytes] = ()


Answer = Received | Deleted | ChangedVisibility | Failed
