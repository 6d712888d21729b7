"""What the tests of hostile messages share: bodies for the wire, what they come to, and what a process has taken."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.events.event import MAX_BODY_BYTES, NANO, Event

if TYPE_CHECKING:
    from exporter_process import Scrape

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
"""Whether there is time for the long versions."""
NEIGHBOUR = b'{"type": "neighbour", "value": 0.1}'
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')


def literal(body: bytes) -> bytes:
    """Return the body as a JSON string for the wire; bytes that are not UTF-8 go there as they are."""
    return b'"%b"' % _ESCAPED.sub(lambda found: b"\\u%04x" % ord(found[0]), body)


@dataclass
class Expected:
    """What a stream of outcomes comes to."""

    types: dict[str, list[int]] = field(default_factory=dict)
    """Count, value and negative value in 1e-9, by type."""
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Event | str) -> None:
        """Add one message: its event, or the reason why it is none."""
        if isinstance(outcome, str):
            self.rejected[outcome] += 1
            return
        totals = self.types.setdefault(outcome.type, [0, 0, 0])
        totals[0] += 1
        totals[1 if outcome.value_nano >= 0 else 2] += abs(outcome.value_nano)

    @property
    def messages(self) -> int:
        """How many were added."""
        return sum(count for count, _, _ in self.types.values()) + self.rejected.total()

    def is_shown_by(self, scrape: Scrape) -> None:
        """Assert that the scrape shows exactly this, every message counted once."""
        counts = scrape.by("sqs_events_total", "type")
        values = scrape.by("sqs_event_value_total", "type")
        negatives = scrape.by("sqs_event_negative_value_total", "type")
        shown = {name: [counts[name], values[name], negatives[name]] for name in counts if counts[name]}
        assert shown == {
            name: [count, value_nano / NANO, negative_nano / NANO]
            for name, (count, value_nano, negative_nano) in self.types.items()
        }
        rejected = scrape.by("sqs_exporter_messages_rejected_total", "reason")
        assert {reason: count for reason, count in rejected.items() if count} == self.rejected
        assert (scrape.received, scrape.duplicate, scrape.released) == (self.messages, 0, 0)


def outcome_on_the_wire(body: bytes, outcome: Event | str) -> Event | str:
    """Return what becomes of a body that was not UTF-8 by the time it was in an answer: it has grown."""
    try:
        body.decode()
    except UnicodeDecodeError:
        grown = len(body.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass"))
        return "too_large" if grown > MAX_BODY_BYTES else outcome
    return outcome


def peak_mib(pid: int) -> int:
    """Return the most memory that the process has had resident so far."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak) // 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the process has taken so far, all threads and the kernel's part of it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
