"""How a queue is consumed: plain values of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from exporter.events.event import EventParser

OnInvalid = Literal["auto", "delete", "leave"]


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How one queue is consumed."""

    parser: EventParser
    on_invalid: OnInvalid
    max_receives: int
    wait_seconds: int
    batch_window_seconds: float
    until_empty: bool = False
    event_ids: bool = False
    """Whether events are to carry an id of their own."""
