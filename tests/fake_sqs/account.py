"""The truth that a test compares the exporter with: what was sent, handed out and deleted, exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

NANO = 1_000_000_000
MAX_BODY_BYTES = 1024 * 1024
MAX_TYPE_CHARACTERS = 128
MAX_VALUE = Decimal(10) ** 15


@dataclass(slots=True)
class TypeTotals:
    """What was sent of one event type: how many, and the exact sums of its values in whole numbers of 1e-9."""

    count: int = 0
    value_nano: int = 0
    """Sum of the values that are not negative."""
    negative_nano: int = 0
    """Sum of the magnitudes of the negative values."""

    @property
    def value(self) -> float:
        """The sum of the values that are not negative, correctly rounded."""
        return self.value_nano / NANO

    @property
    def negative(self) -> float:
        """The sum of the magnitudes of the negative values, correctly rounded."""
        return self.negative_nano / NANO

    def add(self, value_nano: int, times: int = 1) -> None:
        """Count `times` events of one value."""
        self.count += times
        if value_nano < 0:
            self.negative_nano -= value_nano * times
        else:
            self.value_nano += value_nano * times


@dataclass(frozen=True, slots=True)
class Account:
    """Everything the server knows, as of one moment. Numbers of messages are of all queues, unless said otherwise."""

    sent: int = 0
    types: dict[str, TypeTotals] = field(default_factory=dict)
    """Totals of the sent messages that are events."""
    invalid: dict[str, int] = field(default_factory=dict)
    """The sent messages that are not, by reason."""
    deliveries: int = 0
    handed_out: int = 0
    """Distinct messages that were handed out at least once, whether or not the answer arrived."""
    deleted: int = 0
    """Distinct messages that a delete truly removed."""
    stale_deletes: int = 0
    """Deletes that were answered with success and removed nothing."""
    returned_after_delete: int = 0
    """Messages put back although their delete was confirmed."""
    duplicates: int = 0
    """Copies handed out, or put back to be handed out, while their message was in flight."""
    available: int = 0
    in_flight: int = 0
    delayed: int = 0
    dead_lettered: int = 0
    """Moved to a dead-letter queue; they are still in `remaining`, in that queue."""
    expired: int = 0
    """Lost to the retention period."""
    calls: dict[str, int] = field(default_factory=dict)
    """Requests by operation, whether or not they were answered."""
    faults: dict[str, int] = field(default_factory=dict)
    """Faults made, by kind."""
    connections: int = 0
    """Open now."""
    waiting_receives: int = 0
    """Long polls that wait for a message now."""
    cpu_seconds: float = 0.0
    """CPU time of the server's process."""

    @property
    def remaining(self) -> int:
        """Messages still in a queue, in whatever state. Copies count."""
        return self.available + self.in_flight + self.delayed

    @property
    def counted(self) -> int:
        """Events sent, of all types."""
        return sum(totals.count for totals in self.types.values())

    @property
    def rejected(self) -> int:
        """Messages sent that are not an event."""
        return sum(self.invalid.values())


@dataclass(frozen=True, slots=True)
class Message:
    """One message and what became of it. Times are Unix time on the server's clock; `body` is its text."""

    message_id: str
    body: str
    sent_seconds: float
    times_handed_out: int
    deleted_seconds: float | None
    """When a delete truly removed it first; None where none did."""


def classify(body: str) -> tuple[str, int] | str:  # noqa: PLR0911 - a reason each
    """Say what a body is: an event's type and value in 1e-9, or the reason why it is none.

    Written after the rules for events and not after the code of the program under test, and for the bodies that
    tests send: it is an oracle for everyday mistakes, not for every hostile input.
    """
    if len(body.encode("utf-8", "surrogatepass")) > MAX_BODY_BYTES:
        return "too_large"
    try:
        parsed = json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_json)
    except (ValueError, RecursionError, InvalidOperation):
        return "invalid_json"
    if not isinstance(parsed, dict):
        return "not_an_object"
    if "type" not in parsed or "value" not in parsed:
        return "missing_field"
    name = parsed["type"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_TYPE_CHARACTERS or name.startswith("__"):
        return "invalid_type"
    if any(ord(character) < ord(" ") or "\x7f" <= character <= "\x9f" for character in name):
        return "invalid_type"
    value = parsed["value"]
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_json)
        except ValueError:
            return "invalid_value"
    if not isinstance(value, Decimal) or abs(value) > MAX_VALUE:
        return "invalid_value"
    return name, int((value * NANO).to_integral_value())


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
