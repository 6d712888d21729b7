"""A commit that failed: whether it reached the disk is unknown until the file is opened again, and tells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.ledger.sqlite.queue import Queue
    from exporter.ledger.sqlite.state import Change


@dataclass(slots=True)
class Attempt:
    """A commit from when it is begun until it is known to be on disk, or not."""

    seq: int
    """The sequence number of the last row that it was to write."""
    changes: Mapping[str, Change]
    """What it was to write, by queue."""

    def failed(self, queues: Mapping[str, Queue]) -> None:
        """Take over from the queues what they were to account for: it may be written."""
        for name in self.changes:
            queues[name].uncounted = Counter()

    def account(self, queues: Mapping[str, Queue], last_seq: int) -> None:
        """Let the queues forget what waited for it, if it is on disk, else account for what was lost with it.

        `last_seq` is the last commit that the file holds.
        """
        for name, change in self.changes.items():
            queue = queues[name]
            if self.seq <= last_seq:
                queue.written_after_all(change)
                continue
            queue.uncounted.update(change.released)
            if change.received:
                queue.uncounted["commit_failed"] += change.received
