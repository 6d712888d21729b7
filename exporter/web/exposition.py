"""Renders the registry as text, once for all requests that arrive meanwhile and want the same format."""

from __future__ import annotations

import asyncio
import gzip
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.web.encoding import EOF, Encoder
from exporter.web.negotiation import Kind, choose_format
from exporter.web.zero_first import TRUTH, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    from exporter.web.encoding import Written
    from exporter.web.negotiation import Format
    from exporter.web.zero_first import NewSeries, ZeroFirst

MAX_AGE_SECONDS = 1.0
"""What a request is shown began to be made at most so long before it."""
TIMES_SHOWN = 20
"""An exposition is shown for so many times the processor time that it took, and made anew from half of that on: the
next one is there in time, and making takes at most a tenth of the time."""
STEP_SECONDS = 0.01
"""Processor time after which the event loop looks at its pace and at other clients; most are made in less."""
MAX_KEPT = 16
"""Expositions that are remembered at once, by format and names."""
GZIP_LEVEL = 1
"""A tenth of the CPU of the default, for an answer that is a tenth larger."""


class Wanted(NamedTuple):
    """What a request asks for; requests that ask for the same share an exposition."""

    format: Format
    names: frozenset[str] = frozenset()
    """Of `?name[]=`; none means everything."""
    view: View = TRUTH
    """How new series are shown."""


@dataclass(slots=True)
class Exposition:
    """A registry's samples as text, as of one moment. `content_type` names the format, and Prometheus believes it."""

    content_type: str
    body: bytes
    up_to: int = 0
    """The highest number of a new series in it; see exporter.web.zero_first."""
    spoken: bool = False
    """Whether it may hold what only the ledger's speaker shows."""
    _packed: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def packed(self) -> bytes:
        """The body with gzip, compressed once."""
        if self._packed is None:
            self._packed = gzip.compress(self.body, GZIP_LEVEL)
        return self._packed


class _Made(NamedTuple):
    renew_at: float
    usable_until: float
    exposition: Exposition


class Expositions:
    """Makes expositions on the event loop, in slices, each once for all who ask while it is made or soon after."""

    def __init__(  # noqa: PLR0913 - by name
        self,
        registry: CollectorRegistry,
        *,
        created_timestamps: bool,
        zero_first: ZeroFirst | None = None,
        speaking: Callable[[], bool] = lambda: True,
        busy: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[], float] = time.thread_time,
    ) -> None:
        """`busy` says whether the server has much to do: then each exposition is shown for as long as it may be."""
        self._registry = registry
        self._zero_first = zero_first
        self._speaking = speaking
        self._created_timestamps = created_timestamps
        self._busy = busy
        self._monotonic = monotonic
        self._cpu_seconds = cpu_seconds
        self._made: dict[Wanted, _Made] = {}
        self._written: dict[str, list[Written]] = {}
        self._making: dict[Wanted, tuple[float, asyncio.Task[Exposition]]] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._made)

    async def get(self, wanted: Wanted) -> Exposition:
        """Return an exposition that began to be made at most a second ago. What a collector raises, this raises."""
        exposition = await self._recent(wanted)
        while exposition.spoken and not self._speaking():
            self._made.pop(wanted, None)
            exposition = await self._recent(wanted)
        return exposition

    async def _recent(self, wanted: Wanted) -> Exposition:
        now = self._monotonic()
        made = self._made.get(wanted)
        if made is not None and now < made.usable_until:
            if now >= made.renew_at:
                self._begin(wanted, now)
            return made.exposition
        return await asyncio.shield(self._begin(wanted, now))

    def _begin(self, wanted: Wanted, now: float) -> asyncio.Task[Exposition]:
        """Return the task that makes it, which may be under way already."""
        began_at, task = self._making.get(wanted, (0.0, None))
        if task is None or now - began_at >= MAX_AGE_SECONDS:
            task = asyncio.get_running_loop().create_task(self._make(wanted, now))
            # Whoever waits is raised what it raises. Where nobody does, the next request finds out by itself.
            task.add_done_callback(lambda made: made.cancelled() or made.exception())
            self._making[wanted] = now, task
        return task

    async def _make(self, wanted: Wanted, began_at: float) -> Exposition:
        new_series = None if self._zero_first is None else self._zero_first.new_series(wanted.view)
        spoken = self._speaking()
        parts, took_seconds = [], 0.0
        try:
            step_began = self._cpu_seconds()
            for part in encoded(
                self._registry,
                wanted,
                created_timestamps=self._created_timestamps,
                new_series=new_series,
                written=self._written,
            ):
                parts.append(part)
                step_seconds = self._cpu_seconds() - step_began
                if step_seconds >= STEP_SECONDS:
                    took_seconds += step_seconds
                    await asyncio.sleep(0)
                    step_began = self._cpu_seconds()
            took_seconds += self._cpu_seconds() - step_began
        finally:
            is_latest = self._making.get(wanted, (None,))[0] == began_at
            if is_latest:
                del self._making[wanted]
        up_to = 0 if new_series is None else new_series.up_to
        spoken = spoken or self._speaking()
        exposition = Exposition(wanted.format.content_type, b"".join(parts), up_to, spoken)
        shown_seconds = MAX_AGE_SECONDS if self._busy() else min(MAX_AGE_SECONDS, TIMES_SHOWN * took_seconds)
        self._forget(self._monotonic())
        if is_latest:
            self._made[wanted] = _Made(began_at + shown_seconds / 2, began_at + shown_seconds, exposition)
        if wanted.view.shown_up_to is not None and up_to > wanted.view.shown_up_to:
            # A scraper that is shown this has another view at its next scrape. What was made for other scrapers with
            # that view may be older than this, and counters would fall.
            next_wanted = wanted._replace(view=View(up_to))
            self._made.pop(next_wanted, None)
            self._making.pop(next_wanted, None)
        return exposition

    def _forget(self, now: float) -> None:
        for wanted, made in list(self._made.items()):
            if now >= made.usable_until or len(self._made) >= MAX_KEPT:
                del self._made[wanted]


def expose(registry: CollectorRegistry, accept: str, names: Sequence[str], *, created_timestamps: bool) -> Exposition:
    """Collect and encode at once what an `Accept` header and `?name[]=` parameters ask for."""
    wanted = Wanted(choose_format(accept), frozenset(names))
    body = b"".join(encoded(registry, wanted, created_timestamps=created_timestamps))
    return Exposition(wanted.format.content_type, body)


def encoded(
    registry: CollectorRegistry,
    wanted: Wanted,
    *,
    created_timestamps: bool,
    new_series: NewSeries | None = None,
    written: dict[str, list[Written]] | None = None,
) -> Iterator[bytes]:
    """Collect and encode, giving the text in slices that take about a millisecond each.

    `written` saves the work for large families that have hardly changed since; see Encoder.
    `_created`, which a default Prometheus stores as one more series for every counter, is in OpenMetrics alone.
    """
    openmetrics = wanted.format.kind is Kind.OPENMETRICS
    created = created_timestamps and openmetrics
    source: Collector = registry
    if wanted.names:
        # When a series was created has to be known, asked for or not.
        source = registry.restricted_registry({*wanted.names, *map(_created_of, wanted.names)})

    def shows_created(name: str) -> bool:
        return created and (not wanted.names or name in wanted.names)

    encoder = Encoder(
        wanted.format,
        shows_created=shows_created,
        new_series=new_series,
        written={} if written is None else written,
    )
    for family in source.collect():
        yield from encoder.encode(family)
    if openmetrics:
        yield EOF


def _created_of(name: str) -> str:
    return f"{name.removesuffix('_total')}_created"
