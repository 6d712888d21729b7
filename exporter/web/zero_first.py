"""New series are shown to each Prometheus as 0 once, so that `increase()` counts the first events of a new type.

Prometheus can't know that a series which it sees for the first time at 5 began at 0: `increase()` leaves the 5 out. So
a series that is born while this process runs is shown to a scraper as 0 at first, and with its value from then on.

What has been shown must never fall. A series has a number, by the order in which expositions met it; an exposition
holds all series there are, so that a single number says which of them a client has been shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
"""Every Prometheus sends it with a scrape, and hardly any other client does."""
FORGET_SECONDS = 600.0
"""A scraper that has not scraped for so long is forgotten: its address may be another's by now."""
MAX_SCRAPERS = 64
"""How many are remembered at once: any client may send the header."""


class View(NamedTuple):
    """Which of the new series a client is shown with their values: those up to a number; the rest are shown as 0."""

    shown_up_to: int | None
    """None: all of them, the truth."""


TRUTH = View(None)


@dataclass(slots=True)
class _Scraper:
    shown_up_to: int
    last_scrape_at: float


class ZeroFirst:
    """Knows which series are new and which scraper has been shown which of them. Used by the web server's thread alone.

    `names` are the counters that begin so, each with one `_created` sample after each `_total`. `since_seconds` gives
    the Unix time from which on series count as new: the start of this process, or whenever it began to speak for the
    ledger. What was there before is always shown with its value, as others may have shown it.
    """

    def __init__(
        self,
        names: Collection[str],
        since_seconds: Callable[[], float],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = frozenset(names)
        self._since_seconds = since_seconds
        self._monotonic = monotonic
        self._numbers: dict[tuple[str, ...], int] = {}
        self._scrapers: dict[str, _Scraper] = {}
        self._value_shown_up_to = 0

    def begin(self, families: Iterable[Metric]) -> None:
        """Take what is there at the start as old, whatever the clock said when it was created."""
        since_seconds = self._since_seconds()
        for family in families:
            if f"{family.name}_total" in self._names:
                for sample, created_seconds in _with_creation(family):
                    if created_seconds is not None and created_seconds >= since_seconds:
                        self._numbers[_key(sample)] = 0

    def view(self, scraper: str) -> View:
        """Return what a scraper, named by its address, is to be shown now."""
        self._forget()
        known = self._scrapers.get(scraper)
        return View(self._value_shown_up_to if known is None else known.shown_up_to)

    def new_series(self, view: View) -> NewSeries:
        """Return how the new series of one exposition are shown."""
        return NewSeries(self._names, self._numbers, self._since_seconds, view)

    def shown(self, view: View, up_to: int, scraper: str | None) -> None:
        """Note that an exposition with series up to that number was given to a client; a scraper is named."""
        values_up_to = up_to if view.shown_up_to is None else min(up_to, view.shown_up_to)
        self._value_shown_up_to = max(self._value_shown_up_to, values_up_to)
        if scraper is None:
            return
        known = self._scrapers.pop(scraper, None)
        before = (view.shown_up_to or 0) if known is None else known.shown_up_to
        self._scrapers[scraper] = _Scraper(max(before, up_to), self._monotonic())
        if len(self._scrapers) > MAX_SCRAPERS:
            del self._scrapers[next(iter(self._scrapers))]

    def _forget(self) -> None:
        """Forget scrapers that have not scraped for long; they are in the order of their last scrapes."""
        while self._scrapers:
            address, scraper = next(iter(self._scrapers.items()))
            if self._monotonic() - scraper.last_scrape_at < FORGET_SECONDS:
                return
            del self._scrapers[address]


class NewSeries:
    """Shows the new series of one exposition as a view has them."""

    def __init__(
        self,
        names: Collection[str],
        numbers: dict[tuple[str, ...], int],
        since_seconds: Callable[[], float],
        view: View,
    ) -> None:
        self._names = names
        self._numbers = numbers
        self._since_seconds = since_seconds
        self._view = view
        self.up_to = 0
        """The highest number of a series that was shown so far, as 0 or with its value."""

    def concerns(self, family: Metric) -> bool:
        """Whether it is one of the counters that begin at 0."""
        return f"{family.name}_total" in self._names

    def shown(self, family: Metric) -> Iterator[Sample]:
        """Give the family's samples as the client is to see them.

        The family was collected before, so that a lease that begins meanwhile counts for what came with it.
        """
        shown_up_to, since_seconds = self._view.shown_up_to, self._since_seconds()
        for sample, created_seconds in _with_creation(family):
            if created_seconds is None or created_seconds < since_seconds:
                yield sample
                continue
            number = self._numbers.setdefault(_key(sample), len(self._numbers) + 1)
            self.up_to = max(self.up_to, number)
            is_news = shown_up_to is not None and number > shown_up_to
            yield sample._replace(value=0.0) if is_news else sample


def _key(sample: Sample) -> tuple[str, ...]:
    return sample.name, *sample.labels.values()


def _with_creation(family: Metric) -> Iterator[tuple[Sample, float | None]]:
    """Give each sample with its series' creation time (Unix); None where it has none, and for `_created` itself."""
    created = f"{family.name}_created"
    waiting: Sample | None = None
    for sample in family.samples:
        if sample.name == created and waiting is not None:
            yield waiting, sample.value
            waiting = None
            yield sample, None
        else:
            if waiting is not None:
                yield waiting, None
            waiting = sample
    if waiting is not None:
        yield waiting, None
