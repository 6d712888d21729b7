"""What an event is: `parse` turns the body of a message into an `Event`, or raises `InvalidEvent`. Pure: no I/O."""

from __future__ import annotations

import msgspec

NANO = 1_000_000_000
"""A value is kept as a whole number of 1e-9, so that sums are exact and depend on no order."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event.

    `value_nano` is the value as a whole number of 1e-9, rounded half-even. `occurred_at_seconds` is Unix time, None
    where the message has no usable timestamp (it is counted all the same).
    """

    type: str
    value_nano: int
    occurred_at_seconds: float | None
