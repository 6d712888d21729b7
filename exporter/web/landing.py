"""The landing page: what is counted, what waits, and whether all is well, as one HTML file without a script."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from exporter.web.history import WINDOW_SECONDS, Ages, History, largest, types_shown
from exporter.web.landing_format import UNKNOWN, amount, duration, number, rate_text, sparkline, when
from exporter.web.landing_style import STYLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.ledger import SeriesTotals, Snapshot
    from exporter.sqs import QueueDepth

DOCUMENTATION = "https://github.com/sqs-event-exporter/sqs-event-exporter/tree/main/docs"
REFRESH_SECONDS = 10
RENDERED_SECONDS = 1.0
"""How long one rendering serves whoever asks."""
READY = "Ready."
"""What `/-/ready` says where there is nothing to add."""
FILL_TO_LOOK_AT = 0.8
"""Of the memory of ids: above it the page says so in another colour."""


@dataclass(frozen=True, slots=True)
class LandingPage:
    """What `/` shows, as of one moment; all mappings are by queue name. The text is escaped here."""

    version: str
    started_seconds: float
    """When the process started, Unix time."""
    ready: bool
    state: str
    """A sentence: what `/-/ready` says."""
    snapshots: Mapping[str, Snapshot]
    """What was committed; queues of which nothing is known yet may be missing."""
    depths: Mapping[str, QueueDepth] = field(default_factory=dict)
    problems: Mapping[str, str | None] = field(default_factory=dict)
    """Why nothing is counted from a queue, as a sentence; None: it is."""
    ledger: str = ""
    """The ledger's own name."""
    max_messages: int = 0
    """Message ids that the ledger remembers of each queue at most; 0: no limit."""
    speaking: bool = True
    """False in a replica that leaves it to another one to show what the ledger keeps."""


class LandingPages:
    """Renders what `page` gives, and keeps the history that rates and sparklines show.

    `ages` gives how old the messages of each queue were so far. Used by the web server's thread alone.
    """

    def __init__(
        self,
        page: Callable[[], LandingPage],
        telemetry_path: str,
        ages: Callable[[], Mapping[str, Ages]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._page = page
        self._telemetry_path = telemetry_path
        self._ages = ages
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._history = History()
        self._rendered = b""
        self._rendered_until = -math.inf

    def take(self) -> None:
        """Remember the counts of now where that is due."""
        now = self._monotonic()
        if self._history.is_due(now):
            self._history.take(now, self._page().snapshots, self._ages())

    def body(self) -> bytes:
        """Return the page as HTML, rendered at most once a second."""
        now = self._monotonic()
        if now >= self._rendered_until:
            self._rendered = self._render(self._page(), self._ages(), now, self._wall_clock()).encode()
            self._rendered_until = now + RENDERED_SECONDS
        return self._rendered

    def _render(self, page: LandingPage, ages: Mapping[str, Ages], now: float, wall_seconds: float) -> str:
        queues = sorted({*page.snapshots, *page.depths, *page.problems})
        limit = types_shown(len(page.snapshots))
        sections = [
            _Section(page, queue, self._history, ages.get(queue), now, wall_seconds).html(limit) for queue in queues
        ]
        if not page.speaking:
            sections.insert(0, "<p>Another replica speaks for the ledger and shows what it keeps.</p>")
        kind = ("good" if page.state == READY else "warn") if page.ready else "bad"
        badge = f'<span class="badge {kind}">{"Ready" if page.ready else "Not ready"}</span>'
        facts = [f"version {escape(page.version)}", f"up {duration(wall_seconds - page.started_seconds)}"]
        if page.ledger:
            facts.append(f"ledger <bdi>{escape(page.ledger)}</bdi>")
        links = (
            (self._telemetry_path, "metrics"),
            ("/-/ready", "readiness"),
            ("/-/healthy", "health"),
            (DOCUMENTATION, "documentation"),
        )
        return _PAGE.format(
            style=STYLE,
            refresh=REFRESH_SECONDS,
            badge=badge,
            facts=" · ".join(facts),
            kind=kind,
            state=escape(page.state),
            sections="\n".join(sections),
            links=" · ".join(f'<a href="{escape(url)}" rel="noreferrer">{name}</a>' for url, name in links),
            at=datetime.fromtimestamp(wall_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            window=round(WINDOW_SECONDS / 60),
        )


@dataclass(frozen=True, slots=True)
class _Section:
    """One queue's part of the page."""

    page: LandingPage
    queue: str
    history: History
    ages: Ages | None
    now: float
    wall_seconds: float

    def html(self, limit: int) -> str:
        """Return it with so many types at most."""
        snapshot = self.page.snapshots.get(self.queue)
        problem = self.page.problems.get(self.queue)
        head = f"<h2><bdi>{escape(self.queue)}</bdi></h2>"
        if problem:
            head += f'<p class="state bad"><b>Not counting:</b> {escape(problem)}</p>'
        types = {} if snapshot is None else snapshot.types
        counted = sum(totals.count for totals in types.values())
        tiles = [*self._counted(snapshot, counted), *self._waiting(), *self._kept(snapshot)]
        table = "" if snapshot is None else self._table(types, limit)
        return f'<section>{head}<div class="tiles">{"".join(tiles)}</div>{table}</section>'

    def _counted(self, snapshot: Snapshot | None, counted: int) -> Iterable[str]:
        if snapshot is None:
            return
        rate = self.history.rate(self.now, self.queue, None, counted)
        yield _tile(
            "events counted", number(counted), f"{rate_text(rate)} {self._sparkline(None, counted)}", "wide", "line"
        )
        lag = self.history.lag_seconds(self.now, self.queue, self.ages)
        yield _tile("lag", UNKNOWN if lag is None else duration(lag), "age of messages when counted, last minute")
        rejected = sum(snapshot.rejected.values())
        reasons = ", ".join(f"{escape(reason)} {number(times)}" for reason, times in snapshot.rejected.items() if times)
        released = sum(snapshot.released.values())
        yield _tile("received", number(snapshot.received), f"{number(released)} of them left for SQS to redeliver")
        yield _tile("duplicates", number(snapshot.duplicate), "recognised, not counted again")
        yield _tile("rejected", number(rejected), reasons or "no message was invalid", "warn" if rejected else "")

    def _waiting(self) -> Iterable[str]:
        depth = self.page.depths.get(self.queue)
        if depth is None:
            return
        hidden = [
            f"{number(count)} {what}"
            for count, what in ((depth.in_flight, "in flight"), (depth.delayed, "delayed"))
            if count is not None
        ]
        backlog = UNKNOWN if depth.visible is None else number(depth.visible)
        yield _tile("backlog", backlog, ", ".join([*hidden, "as SQS said within the last minutes"]))
        if depth.dead_letter_queue is not None:
            dead = depth.dead_letter_visible
            name = f"in <bdi>{escape(depth.dead_letter_queue)}</bdi>"
            yield _tile("dead letters", UNKNOWN if dead is None else number(dead), name, "warn" if dead else "")

    def _kept(self, snapshot: Snapshot | None) -> Iterable[str]:
        if snapshot is None:
            return
        unsettled = f"{number(snapshot.unsettled_messages)} not yet deleted from SQS"
        limit = self.page.max_messages
        if not limit:
            yield _tile("ids remembered", number(snapshot.messages), unsettled)
            return
        fill = min(1.0, snapshot.messages / limit)
        kind = "warn" if fill >= FILL_TO_LOOK_AT else ""
        meter = f'<meter value="{fill:.3f}" high="{FILL_TO_LOOK_AT}">{fill:.0%}</meter>'
        note = f"{meter}{number(snapshot.messages)} of {number(limit)} ids, {unsettled}"
        yield _tile("ledger's fill", f"{fill:.0%}", note, f"wide {kind}")

    def _table(self, types: Mapping[str, SeriesTotals], limit: int) -> str:
        shown = largest({name: totals.count for name, totals in types.items()}, limit)
        rows = [self._row(name, types[name]) for name in shown]
        left_out = len(types) - len(shown)
        more = f'<p class="note">{number(left_out)} more types are in the metrics.</p>' if left_out else ""
        if not rows:
            return '<p class="note">No event was counted yet.</p>'
        heads = ("type", "count", "sum", "rate", "last minutes", "last event")
        head = "".join(f'<th scope="col">{name}</th>' for name in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}"

    def _row(self, event_type: str, totals: SeriesTotals) -> str:
        rate = self.history.rate(self.now, self.queue, event_type, totals.count)
        return (
            f'<tr><th scope="row"><bdi>{escape(event_type)}</bdi></th>'
            f'<td data-name="count">{number(totals.count)}</td>'
            f'<td data-name="sum">{amount(totals.value_nano - totals.negative_nano)}</td>'
            f'<td data-name="rate">{rate_text(rate)}</td>'
            f'<td class="spark">{self._sparkline(event_type, totals.count)}</td>'
            f'<td data-name="last event">{when(totals.last_occurred_seconds, self.wall_seconds)}</td></tr>'
        )

    def _sparkline(self, event_type: str | None, count: int) -> str:
        return sparkline(self.history.points(self.now, self.queue, event_type, count))


def _tile(name: str, value: str, note: str, kind: str = "", note_kind: str = "") -> str:
    return f'<div class="tile {kind}"><span>{name}</span><b>{value}</b><small class="{note_kind}">{note}</small></div>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="{refresh}">
<title>sqs-event-exporter</title>
<style>{style}</style>
</head>
<body>
<header><h1>sqs-event-exporter {badge}</h1>
<p class="note">Counts the events in Amazon SQS queues, each exactly once · {facts}</p></header>
<p class="state {kind}">{state}</p>
<main>
{sections}
</main>
<footer><p>{links}</p>
<p class="note">As of {at}; lines show the last {window} minutes, or the time since the start.
This page renews itself every {refresh} seconds.</p>
</footer>
</body>
</html>
"""
