"""The account of what was sent: what SQS confirmed that it took, so that what is counted can be checked against it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exporter.events.event import NANO
from exporter.producer.sample import REASONS, TYPES

if TYPE_CHECKING:
    from exporter.producer.sample import Message


@dataclass(slots=True)
class Account:
    """What SQS confirmed that it took, duplicates included."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))
    sums_nano: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))
    """In 1e-9, so that they are exact."""
    invalid: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    duplicates: int = 0
    duplicate_counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))
    """Of `counts`, those that were sent before: whoever knows events by their own ids counts so many fewer."""
    duplicate_sums_nano: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))
    event_ids: bool = False
    """Whether the events have ids of their own."""
    messages: int = 0
    uncertain: int = 0
    """Sends without an answer: SQS may have them or not, and they are in none of the other numbers."""

    def confirm(self, message: Message) -> None:
        """Enter a message that SQS has."""
        self.messages += 1
        self.duplicates += message.duplicate
        if message.reason is not None:
            self.invalid[message.reason] += 1
            return
        self.counts[message.type] += 1
        self.sums_nano[message.type] += message.value_nano
        if message.duplicate:
            self.duplicate_counts[message.type] += 1
            self.duplicate_sums_nano[message.type] += message.value_nano

    def as_json(self) -> str:
        """One line; `uncertain` is there only if there is something uncertain, and then nothing can be checked.

        `once` is there where events have ids of their own: what comes out where each is counted once.
        """
        sent = {name: {"count": self.counts[name], "sum": self.sums_nano[name] / NANO} for name in TYPES}
        account: dict[str, Any] = {
            "sent": sent,
            "invalid": self.invalid,
            "duplicates": self.duplicates,
            "messages": self.messages,
        }
        if self.event_ids:
            account["once"] = {
                name: {
                    "count": self.counts[name] - self.duplicate_counts[name],
                    "sum": (self.sums_nano[name] - self.duplicate_sums_nano[name]) / NANO,
                }
                for name in TYPES
            }
        if self.uncertain:
            account["uncertain"] = self.uncertain
        return json.dumps(account)
