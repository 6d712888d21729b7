"""The summary on stdout: one JSON line per event type that changed, in the prototype's form."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from exporter.events.event import NANO
from exporter.telemetry.line_writer import line_start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from exporter.ledger import SeriesTotals, Snapshot

Key = tuple[str, str]
"""A queue's name and a type."""

log = logging.getLogger("exporter.summary")

STALLED_SECONDS = 0.5
"""How long a reader of stdout that does not read is waited for; what it missed is written next time."""


class Summary:
    """Writes `{"type": "purchase", "count": 75, "sum": 650.0}` lines every `interval_seconds` (0: never any).

    `show_queue` puts `"queue"` before the other keys: where `--queue` is a list or a prefix. `snapshots` gives what is
    known, by queue name. Each interval writes the types that changed since their last line, or since the start; `stop`
    writes all that have events.
    A stream that is closed (None where the process never had one) ends it, one that nobody reads is left alone:
    neither holds up the exporter.
    """

    def __init__(
        self,
        snapshots: Callable[[], Mapping[str, Snapshot]],
        stream: TextIO | None,
        interval_seconds: float,
        *,
        show_queue: bool,
    ) -> None:
        self._snapshots = snapshots
        self._stream = stream
        self._interval_seconds = interval_seconds
        self._show_queue = show_queue
        self._written: dict[Key, tuple[int, int]] = {}
        self._stuck_since: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="summary", daemon=True)

    def start(self) -> None:
        """Begin; what the ledger holds by now counts as known."""
        if self._interval_seconds > 0 and self._stream is not None:
            self._written = {key: _shown(totals) for key, totals in self._totals().items()}
            self._thread.start()

    def stop(self) -> None:
        """Write all types once more and end. Takes at most about a second; safe to call twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * STALLED_SECONDS)

    def stuck(self) -> str | None:
        """Return a sentence where stdout did not take the last summary, else None. Counting goes on meanwhile."""
        since = self._stuck_since
        if since is None:
            return None
        return f"nobody has read stdout for {time.monotonic() - since:.0f} s: the summary waits, counting goes on"

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._write({key: totals for key, totals in self._totals().items() if self._changed(key, totals)})
        self._write(self._totals())

    def _totals(self) -> dict[Key, SeriesTotals]:
        return {
            (queue, name): totals
            for queue, snapshot in self._snapshots().items()
            for name, totals in snapshot.types.items()
        }

    def _changed(self, key: Key, totals: SeriesTotals) -> bool:
        return self._written.get(key, (0, 0)) != _shown(totals)

    def _write(self, changed: Mapping[Key, SeriesTotals]) -> None:
        stream, began = self._stream, time.monotonic()
        for (queue, name), totals in changed.items():
            if totals.count == 0:
                continue
            if stream is None:
                return
            if not _takes_a_line(stream, began + STALLED_SECONDS):
                self._stuck_since = self._stuck_since or began
                return
            self._stuck_since = None
            count, net_nano = _shown(totals)
            line = {"queue": queue} if self._show_queue else {}
            try:
                stream.write(
                    line_start(stream)
                    + json.dumps({**line, "type": name, "count": count, "sum": net_nano / NANO})
                    + "\n"
                )
                stream.flush()
            except (OSError, ValueError) as error:
                self._stream = None
                log.warning("no more summaries: stdout can't be written to", extra={"error": str(error)})
                _silence(stream)
                return
            self._written[queue, name] = (count, net_nano)


def _silence(stream: TextIO) -> None:
    """Point the stream nowhere: Python flushes stdout once more at its end, and failing there has its own exit code.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _shown(totals: SeriesTotals) -> tuple[int, int]:
    return totals.count, totals.value_nano - totals.negative_nano


def _takes_a_line(stream: TextIO, deadline: float) -> bool:
    """Whether a line (below PIPE_BUF, so that a pipe takes it whole or not at all) can be written without blocking.

    A thread that hangs in a write would hold stdout's lock, which Python needs to end.
    """
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return True
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
