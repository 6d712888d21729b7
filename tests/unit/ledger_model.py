"""An exact model of the ledger: the promise for one queue, one id at a time, in Python's own sets and fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from exporter.events.event import Event
from exporter.ledger import OTHER

VISIBILITY_SECONDS = 4
WINDOW_SECONDS = 16.0
ID_WINDOW_SECONDS = 28.0
RETENTION_SECONDS = 40
MAX_TYPES = 2
MAX_SERIES = 3
RESERVED_IDS = 10


class Spec(NamedTuple):
    """What a message holds, whatever the labels are today."""

    type: str
    nano: int
    at: float | None
    labels: dict[str, str]
    event_id: bytes | None = None

    def event(self, label_names: tuple[str, ...]) -> Event:
        """Return the event as it is read today."""
        values = (self.labels.get(name, "") for name in label_names)
        return Event((self.type, *values), self.nano, self.at, self.event_id)


Arrivals = list[tuple[bytes, Spec | str]]
Labels = frozenset[tuple[str, str]]
ALL_OTHER: Labels = frozenset({("*", OTHER)})


@dataclass(eq=False)
class Row:
    """What one commit remembered of messages."""

    ids: set[bytes]
    clock: float
    paused: float
    wall: float
    taken: int
    """How many of them came with its deliveries."""


@dataclass(eq=False)
class EventRow:
    """What one commit remembered of events."""

    links: dict[bytes, bytes]
    """Messages and the events they hold, among them those of dropped rows."""
    named: set[bytes]
    """All events it remembered."""
    clock: float
    paused: float
    taken: int


@dataclass
class Committed:
    """Everything of one queue that must survive a crash."""

    rows: list[Row] = field(default_factory=list)
    home: dict[bytes, Row] = field(default_factory=dict)
    unsettled: dict[bytes, float] = field(default_factory=dict)
    event_rows: list[EventRow] = field(default_factory=list)
    event_home: dict[bytes, EventRow] = field(default_factory=dict)
    links: dict[bytes, tuple[bytes, float, EventRow]] = field(default_factory=dict)
    clock: float = 0.0
    paused: float = 0.0
    counts: dict[tuple[str, Labels], int] = field(default_factory=dict)
    sums: dict[tuple[str, Labels], Fraction] = field(default_factory=dict)
    received: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    overflowed: dict[str, int] = field(default_factory=lambda: {"types": 0, "series": 0})
    unreadable: int = 0
    forgotten: int = 0
    without_event_id: int = 0


class ModelQueue:
    """The promise for one queue, one id at a time."""

    def __init__(self, max_ids: int, event_ids: bool, label_names: tuple[str, ...]) -> None:  # noqa: FBT001
        self.max_ids = max_ids
        self.event_ids = event_ids
        self.label_names = label_names
        self.disk = Committed()
        self.begin()
        self.pending: set[bytes] = set()
        self.pending_links: dict[bytes, bytes] = {}
        self.uncounted: dict[str, int] = {}
        self.clock = 0.0
        self.paused = 0.0
        self.age = 0.0
        self.ahead = 0.0
        self.passed_at = 0.0
        self.advanced = 0.0
        self.young: list[tuple[float, int]] = []
        self.spread = False

    def begin(self) -> None:
        """Show what is shown from the start."""
        for key in [("shown", *("" for _ in self.label_names)), self.other(OTHER)]:
            if key not in self.series():
                self.disk.counts[self.stored(key)] = 0

    def ids(self) -> int:
        """All ids that are remembered."""
        return len(self.disk.home) + len(self.disk.event_home)

    def settle(self, ids: list[bytes]) -> None:
        """Keep what is unsettled for the next commit."""
        self.pending |= {i for i in ids if i in self.disk.unsettled}
        self.pending_links.update(
            {i: self.disk.links[i][0] for i in ids if i in self.disk.links and i not in self.pending_links}
        )

    def advance(self, seconds: float) -> None:
        """Let the clock run."""
        self.clock += seconds
        self.advanced += seconds

    def pass_time(self, monotonic: float) -> None:
        """Where the memory was nearly full ids age without receives, too, at most 2 s a step, no second twice."""
        if self.spread:
            elapsed = min(monotonic - self.passed_at, 2.0)
            self.age += elapsed
            self.ahead = min(self.ahead + elapsed, 25.0)
        else:
            counted = min(self.advanced, self.ahead)
            self.age += self.advanced - counted
            self.ahead -= counted
        self.passed_at, self.advanced = monotonic, 0.0
        self.paused = self.age - self.clock
        now = self.age
        self.young = [(at, taken) for at, taken in self.young if at + 0.25 > now - 2 * VISIBILITY_SECONDS]
        unsettled = len(self.disk.unsettled) - len(self.pending) + len(self.disk.links) - len(self.pending_links)
        young = sum(taken for _, taken in self.young)
        used = young + max(0, min(self.ids() - young, unsettled))
        self.spread = 2 * used >= self.max_ids or self.max_ids - self.ids() < RESERVED_IDS

    def rebuild(self) -> None:
        """Know again from the rows which ids are young."""
        rows: list[Row | EventRow] = [*self.disk.rows, *self.disk.event_rows]
        self.young = sorted((row.clock + row.paused, row.taken) for row in rows)
        self.spread = False

    def commit(self, arrivals: Arrivals, released: dict[str, int], wall: float, monotonic: float) -> list[bool]:
        """Record, prune, settle."""
        self.pass_time(monotonic)
        disk, paused = self.disk, self.paused
        for i in self.pending:
            disk.unsettled.pop(i)
        for i in self.pending_links:
            disk.links.pop(i)
        fresh, new, renewed = [], set[bytes](), {i for i, _ in arrivals if i in disk.home}
        links: dict[bytes, bytes] = {}
        seen_events = set(disk.event_home)
        for message_id, spec in arrivals:
            event_id = spec.event_id if self.event_ids and isinstance(spec, Spec) else None
            is_new = message_id not in renewed and message_id not in new
            fresh.append(is_new and event_id not in seen_events)
            new |= {message_id} - renewed
            disk.received += 1
            if fresh[-1]:
                self.count(spec)
                seen_events |= {event_id} - {None}  # type: ignore[arg-type]
            else:
                disk.duplicate += 1
            if event_id is not None and event_id in seen_events:
                links[message_id] = event_id
        for reason, number in [*released.items(), *self.uncounted.items()]:
            disk.received += number
            disk.released[reason] = disk.released.get(reason, 0) + number
        self.uncounted = {}

        excess = self.ids() + len(new) + len(links) - self.max_ids + RESERVED_IDS
        of_events = excess * len(disk.event_home) // max(1, self.ids())
        carried = self.prune(renewed, excess - of_events)
        carried_links = self.prune_events({*links.values(), *self.pending_links.values()}, links, of_events)
        row = Row(new | renewed | carried, self.clock, paused, wall, len(new | renewed))
        if row.ids or self.pending:
            disk.rows.append(row)
            self.young.append((row.clock + row.paused, row.taken))
        disk.home.update(dict.fromkeys(row.ids, row))
        disk.unsettled.update(dict.fromkeys(new | renewed, self.clock))
        self.remember_events(links, carried_links)
        disk.clock, disk.paused = self.clock, paused
        self.pending, self.pending_links = set(), {}
        return fresh

    def remember_events(self, links: dict[bytes, bytes], carried: dict[bytes, tuple[bytes, float]]) -> None:
        """Write what the commit has to say of events."""
        disk = self.disk
        all_links = links | {i: event_id for i, (event_id, _) in carried.items()}
        named = {*all_links.values(), *self.pending_links.values()}
        if not named:
            return
        row = EventRow(all_links, named, self.clock, self.paused, len(links))
        disk.event_rows.append(row)
        self.young.append((row.clock + row.paused, row.taken))
        disk.event_home.update(dict.fromkeys(named, row))
        disk.links.update({i: (event_id, self.clock, row) for i, event_id in links.items()})
        disk.links.update({i: (event_id, since, row) for i, (event_id, since) in carried.items()})

    def count(self, spec: Spec | str) -> None:
        """Count one new message."""
        disk = self.disk
        if isinstance(spec, str):
            disk.rejected[spec] = disk.rejected.get(spec, 0) + 1
            return
        stored = self.stored(self.place(spec.event(self.label_names).series))
        disk.counts[stored] = disk.counts.get(stored, 0) + 1
        disk.sums[stored] = disk.sums.get(stored, Fraction()) + Fraction(spec.nano, 10**9)
        disk.unreadable += spec.at is None
        disk.without_event_id += self.event_ids and spec.event_id is None

    def place(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """Find the series that has the event."""
        known = set(self.series())
        types = {name for name, *_ in known} - {"shown", OTHER}
        if key[0] not in types | {"shown"} and len(types) >= MAX_TYPES:
            self.disk.overflowed["types"] += 1
            return self.other(OTHER)
        empty = ("shown", *("" for _ in self.label_names))
        sets = {other for other in known if OTHER not in other and other != empty}
        if self.label_names and key not in {*known, empty} and len(sets) >= MAX_SERIES:
            self.disk.overflowed["series"] += 1
            return self.other(key[0])
        return key

    def other(self, name: str) -> tuple[str, ...]:
        """Return the series of a type that has what is too much."""
        return (name, *(OTHER for _ in self.label_names))

    def stored(self, key: tuple[str, ...]) -> tuple[str, Labels]:
        """Return a series by the names of its labels."""
        if key[0] == OTHER or (self.label_names and key == self.other(key[0])):
            return key[0], ALL_OTHER
        return key[0], frozenset((n, v) for n, v in zip(self.label_names, key[1:], strict=True) if v)

    def series(self) -> dict[tuple[str, ...], tuple[int, Fraction]]:
        """Sum up all that was counted by today's labels."""
        series: dict[tuple[str, ...], tuple[int, Fraction]] = {}
        for (name, labels), number in self.disk.counts.items():
            values = dict(labels)
            key = (name, *(OTHER if labels == ALL_OTHER else values.get(label, "") for label in self.label_names))
            before, total = series.get(key, (0, Fraction()))
            series[key] = (before + number, total + self.disk.sums.get((name, labels), 0))
        return series

    def old_enough(self, row: Row | EventRow, excess: int) -> bool:
        """Tell whether a row may be dropped early."""
        return excess > 0 and self.clock - row.clock + self.paused - row.paused >= 2 * VISIBILITY_SECONDS

    def droppable(self, row: Row, excess: int) -> bool:
        """Tell whether a row is due, says nothing, or may be dropped early."""
        return not row.ids or self.clock - row.clock >= WINDOW_SECONDS or self.old_enough(row, excess)

    def events_droppable(self, row: EventRow, excess: int) -> bool:
        """Tell whether a row of events is due, or may be dropped early."""
        return self.clock - row.clock >= ID_WINDOW_SECONDS or self.old_enough(row, excess)

    def prune(self, renewed: set[bytes], excess: int) -> set[bytes]:
        """Forget messages from the oldest row on; returns what is carried."""
        disk = self.disk
        carried: set[bytes] = set()
        while disk.rows and self.droppable(disk.rows[0], excess):
            row = disk.rows.pop(0)
            for i in [i for i in row.ids - renewed if disk.home.get(i) is row]:
                if i in disk.unsettled and self.clock - disk.unsettled[i] < RETENTION_SECONDS:
                    carried.add(i)
                    continue
                disk.forgotten += i not in disk.unsettled and self.clock - row.clock < WINDOW_SECONDS
                disk.unsettled.pop(i, None)
                del disk.home[i]
                excess -= 1
        return carried

    def prune_events(
        self, renewed: set[bytes], links: dict[bytes, bytes], excess: int
    ) -> dict[bytes, tuple[bytes, float]]:
        """Forget events from the oldest row on; returns the links that are carried."""
        disk = self.disk
        carried: dict[bytes, tuple[bytes, float]] = {}
        while disk.event_rows and self.events_droppable(disk.event_rows[0], excess):
            row = disk.event_rows.pop(0)
            kept = set()
            for i in [i for i in row.links if i not in links and i in disk.links and disk.links[i][2] is row]:
                event_id, since, _ = disk.links[i]
                if self.clock - since < RETENTION_SECONDS:
                    carried[i] = (event_id, since)
                    kept.add(event_id)
                else:
                    disk.links.pop(i)
            for event_id in [e for e in row.named - renewed - kept if disk.event_home.get(e) is row]:
                disk.forgotten += self.clock - row.clock < ID_WINDOW_SECONDS
                del disk.event_home[event_id]
                excess -= 1
        return carried

    def waits(self) -> bool:
        """Tell whether the next commit has anything to write."""
        return bool(self.pending or self.pending_links or self.uncounted)

    def wants_flush(self, monotonic: float) -> bool:
        """Tell whether a flush has anything to write."""
        if self.waits() or self.clock != self.disk.clock:
            return True
        self.pass_time(monotonic)
        rows, event_rows, excess = self.disk.rows, self.disk.event_rows, self.ids() - self.max_ids + RESERVED_IDS
        prunable = rows and self.droppable(rows[0], excess)
        return bool(prunable or (event_rows and self.events_droppable(event_rows[0], excess)))

    def crash(self, monotonic: float) -> None:
        """Lose what was not committed."""
        self.pending, self.pending_links, self.uncounted = set(), {}, {}
        self.clock, self.paused = self.disk.clock, self.disk.paused
        self.age, self.ahead = self.clock + self.paused, 0.0
        self.passed_at, self.advanced = monotonic, 0.0
        self.rebuild()
