"""What a demo shows beside a run: a live table on a terminal, and at its end the proof that nothing was lost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from exporter.cli.terminal import REDRAW_SECONDS
from exporter.events.event import NANO
from exporter.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.table import Table

    from exporter.cli.embedded_sqs import Demo
    from exporter.ledger import Snapshot

NO_EVENT = "no event"
"""The line of what a producer sent that is none on purpose."""
DRAIN_SECONDS = 10.0
"""How long the end of a demo waits until what was sent is counted, too."""


class Line(NamedTuple):
    """What was sent and what was counted of one type of one queue, or of what is no event."""

    queue: str
    type: str
    sent: int
    counted: int
    sent_nano: int
    counted_nano: int

    @property
    def equal(self) -> bool:
        """Whether it was counted exactly."""
        return (self.sent, self.sent_nano) == (self.counted, self.counted_nano)


class DemoShow:
    """Follows one run, which calls `started` before its loop begins and `ended` after it; a signal calls `stopping`."""

    def __init__(self, demo: Demo, page: str, *, live: bool) -> None:
        self._demo = demo
        self._title = f"{page}  Ctrl-C ends it"
        self._live = live
        self._ended = threading.Event()
        self._snapshots: Callable[[], Mapping[str, Snapshot]] = dict
        self._drawing: threading.Thread | None = None

    def started(self, snapshots: Callable[[], Mapping[str, Snapshot]]) -> None:
        """Begin to draw; `snapshots` gives what is counted, at any time."""
        self._snapshots = snapshots
        if self._live:
            self._drawing = threading.Thread(target=self._draw, name="table", daemon=True)
            self._drawing.start()

    def stopping(self, then: Callable[[], None]) -> None:
        """End the producers, and call `then` when all that they sent is counted, or `DRAIN_SECONDS` later."""
        self._title = "ending: nothing more is sent, and the rest is counted"
        threading.Thread(target=self._drain, args=(then,), name="drain", daemon=True).start()

    def ended(self) -> None:
        """Stop to draw, and say the proof."""
        self._ended.set()
        if self._drawing is not None:
            self._drawing.join()
            logs.keep_below("")
        for sentence in self._proof():
            logs.say(sentence)

    def _drain(self, then: Callable[[], None]) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        self._demo.stop.set()
        for producer in self._demo.producers:
            producer.join(max(0.0, deadline - time.monotonic()))
        while time.monotonic() < deadline and not all(line.equal for line in self._lines()):
            time.sleep(REDRAW_SECONDS / 2)
        then()

    def _lines(self) -> Iterator[Line]:
        snapshots = self._snapshots()
        for queue, account in self._demo.accounts.items():
            snapshot = snapshots.get(queue)
            types = snapshot.types if snapshot is not None else {}
            for name, sent in account.counts.items():
                totals = types.get(name)
                yield Line(
                    queue,
                    name,
                    sent,
                    totals.count if totals else 0,
                    account.sums_nano[name],
                    totals.value_nano - totals.negative_nano if totals else 0,
                )
            rejected = sum(snapshot.rejected.values()) if snapshot is not None else 0
            yield Line(queue, NO_EVENT, sum(account.invalid.values()), rejected, 0, 0)

    def _proof(self) -> Iterator[str]:
        lines = list(self._lines())
        for line in lines:
            sums = "" if line.type == NO_EVENT else f" (sum {line.sent_nano / NANO:,.2f})"
            counted = "" if line.type == NO_EVENT else f" (sum {line.counted_nano / NANO:,.2f})"
            verb = "rejected" if line.type == NO_EVENT else "counted"
            verdict = "equal" if line.equal else "not equal"
            yield f"{line.queue} {line.type}: sent {line.sent}{sums}, {verb} {line.counted}{counted}: {verdict}"
        uncertain = sum(account.uncertain for account in self._demo.accounts.values())
        sent, counted_all = sum(line.sent for line in lines), sum(line.counted for line in lines)
        if uncertain:
            yield f"of {uncertain} messages it is unknown whether they were sent, so nothing is proven"
        elif all(line.equal for line in lines):
            yield f"proof: {sent} messages were sent and {counted_all} counted or rejected, each exactly once"
        else:
            yield f"{sent} messages were sent and {counted_all} counted or rejected: the others are still in the queue"

    def _draw(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - a tenth of a second, for those who see it

        console = Console(stderr=True)
        while not self._ended.wait(REDRAW_SECONDS):
            with console.capture() as drawn:
                console.print(self._table())
            logs.keep_below("\n".join(_fitting(drawn.get().splitlines(), console.height - 1)))

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415 - as above

        table = Table(title=self._title, title_justify="left")
        for heading in ("queue", "type"):
            table.add_column(heading)
        for heading in ("sent", "counted", "sum"):
            table.add_column(heading, justify="right")
        for line in self._lines():
            if line.type == NO_EVENT:
                table.add_row(line.queue, f"{NO_EVENT}: rejected", f"{line.sent:,}", f"{line.counted:,}", "")
            else:
                total = f"{line.counted_nano / NANO:,.2f}"
                table.add_row(line.queue, line.type, f"{line.sent:,}", f"{line.counted:,}", total)
        return table


def _fitting(lines: Sequence[str], most: int) -> Sequence[str]:
    """Cut what is higher than the terminal, which could not be drawn anew."""
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more lines: this terminal is too low for them"]
