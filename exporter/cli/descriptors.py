"""How many files a run may have open (`ulimit -n`), beside what its queues need: connections are files, too."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from exporter.errors import ExporterError
from exporter.web.clients import MAX_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWN_DESCRIPTORS = 64
"""What a run has open besides its calls and its clients: the ledger, its logs, housekeeping's connections."""


def needed_descriptors(receives: int) -> int:
    """Return how many files must be allowed for so many receives at once, each with deletes beside it.

    The web server takes half of what is allowed for its clients, `MAX_CONNECTIONS` at most.
    """
    own = OWN_DESCRIPTORS + 2 * receives
    return own + min(own, MAX_CONNECTIONS)


class DescriptorLimit:
    """The limit of this process, beside what the queues need that it has now; each has one receive at least.

    `queues` says how many there are: a prefix takes up more while it runs.
    """

    def __init__(self, max_receives: int, queues: Callable[[], int]) -> None:
        self._max_receives = max_receives
        self._queues = queues
        self._told = False

    def require(self, queues: int) -> None:
        """Refuse a limit at which calls or scrapes would find no descriptor. Raises ExporterError."""
        if (sentence := self._shortage(queues)) is not None:
            fewer = "lower --sqs.max-receives" if self._max_receives > queues else "name fewer queues"
            raise ExporterError(f"{sentence}, or {fewer}")

    def shortage(self) -> str | None:
        """Return a sentence where the limit is too low for the queues that there are now, else None."""
        return self._shortage(self._queues())

    def shortage_once(self) -> Iterator[str]:
        """Yield that sentence the first time that there is one, for the log."""
        sentence = self.shortage()
        if sentence is not None and not self._told:
            self._told = True
            yield sentence

    def _shortage(self, queues: int) -> str | None:
        receives = max(self._max_receives, queues)
        needed = needed_descriptors(receives)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return None
        at_once = (
            f"{queues} queues with a receive each" if queues > self._max_receives else f"{receives} receives at once"
        )
        return (
            f"this process may have {soft} files open, and {at_once} need {needed}: raise the limit "
            f"(ulimit -n {needed})"
        )
