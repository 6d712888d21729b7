"""What requests hold, and what SQS refuses in them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from fake_sqs.errors import SqsError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BATCH = 10
MAX_WAIT_SECONDS = 20
MAX_VISIBILITY_SECONDS = 43_200
ENTRY_IDS = re.compile("(?:[A-Za-z0-9_-]{1,80} )+")
NOT_SQS_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SendMessage refuses: https://www.w3.org/TR/REC-xml/#charsets"""

NAMES = {
    name.lower(): name
    for name in (
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
        "CreateQueue",
        "DeleteMessage",
        "DeleteMessageBatch",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "ListQueues",
        "ReceiveMessage",
        "SendMessage",
        "SendMessageBatch",
    )
}
"""SQS's names of the operations, by what they are in lower case."""


class ReceiveRequest(msgspec.Struct, rename="pascal"):
    """ReceiveMessage."""

    queue_url: str
    max_number_of_messages: int = 1
    wait_time_seconds: int | None = None
    visibility_timeout: int | None = None
    attribute_names: tuple[str, ...] = ()
    message_system_attribute_names: tuple[str, ...] = ()
    message_attribute_names: tuple[str, ...] = ()
    receive_request_attempt_id: str | None = None


class HandleEntry(msgspec.Struct, rename="pascal"):
    """One entry of DeleteMessageBatch or ChangeMessageVisibilityBatch."""

    id: str
    receipt_handle: str
    visibility_timeout: int = 0


class HandleBatchRequest(msgspec.Struct, rename="pascal"):
    """DeleteMessageBatch and ChangeMessageVisibilityBatch."""

    queue_url: str
    entries: list[HandleEntry]


class ListRequest(msgspec.Struct, rename="pascal"):
    """ListQueues and ListDeadLetterSourceQueues."""

    queue_name_prefix: str = ""
    queue_url: str = ""
    max_results: int | None = None
    next_token: str | None = None


class HandleRequest(msgspec.Struct, rename="pascal"):
    """DeleteMessage and ChangeMessageVisibility."""

    queue_url: str
    receipt_handle: str
    visibility_timeout: int = 0


@lru_cache(maxsize=1000)
def is_wanted(name: str, names: tuple[str, ...]) -> bool:
    """Say whether an attribute is among those that were asked for: by name, prefix (`foo.*`) or `All`."""
    if "All" in names or ".*" in names or name in names:
        return True
    return any(wanted.endswith(".*") and name.startswith(wanted[:-2]) for wanted in names)


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Raise SqsError where a parameter is out of its range."""
    if not low <= value <= high:
        raise SqsError("InvalidParameterValue", f"Value {value} for parameter {name} is invalid: {low} to {high}.")


def check_batch(ids: Sequence[str]) -> None:
    """Raise SqsError where the entries of a batch are none, too many, or not told apart."""
    if not ids:
        raise SqsError("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(ids) > MAX_BATCH:
        raise SqsError("TooManyEntriesInBatchRequest", f"Maximum number of entries per request are {MAX_BATCH}.")
    if not ENTRY_IDS.fullmatch(" ".join(ids) + " "):
        raise SqsError("InvalidBatchEntryId", "An Id has 1 to 80 letters, digits, hyphens and underscores.")
    if len(set(ids)) != len(ids):
        raise SqsError("BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")
