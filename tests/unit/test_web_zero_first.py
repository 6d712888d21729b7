"""New series are shown to each Prometheus as 0 once; nothing that anyone was shown ever falls; others see the truth."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import CollectorRegistry

from exporter.web.exposition import Expositions, Wanted, encoded
from exporter.web.negotiation import TEXT
from exporter.web.zero_first import FORGET_SECONDS, MAX_SCRAPERS, TRUTH, ZeroFirst

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

STARTED = 1_000.0
OTHER = "other_total"


class Exporter:
    """A process: counters that are born and grow, and what each client is shown of them."""

    def __init__(self, series: dict[str, tuple[float, float]] | None = None, since: float = STARTED) -> None:
        self.series = series if series is not None else {}
        """Value and creation time, by type."""
        self.now = since
        self.since = since
        self.zero_first = ZeroFirst({"events_total"}, lambda: self.since, monotonic=lambda: self.now)
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(self)
        self.zero_first.begin(self.collect())

    def collect(self) -> Iterable[Metric]:
        """Give the family that begins at 0, and one that does not."""
        for name in ("events_total", OTHER):
            family = CounterMetricFamily(name, "E.", labels=("type",))
            for event_type, (value, created) in self.series.items():
                family.add_metric((event_type,), value, created)
            yield family

    def count(self, event_type: str, events: float = 1) -> None:
        """Count events of a type, which may be new."""
        self.now += 1
        value, created = self.series.get(event_type, (0, self.now))
        self.series[event_type] = (value + events, created)

    def scrape(self, scraper: str | None = None, *names: str) -> dict[str, float]:
        """Return the values of `events_total` by type as a client sees them: a named scraper, or anyone."""
        self.now += 1
        view = TRUTH if scraper is None else self.zero_first.view(scraper)
        new_series = self.zero_first.new_series(view)
        wanted = Wanted(TEXT, frozenset(names), view)
        text = b"".join(encoded(self.registry, wanted, created_timestamps=False, new_series=new_series)).decode()
        self.zero_first.shown(view, new_series.up_to, scraper)
        shown = {}
        for line in text.splitlines():
            if line.startswith("events_total{"):
                shown[line.split('"')[1]] = float(line.split()[-1])
        return shown

    def restart(self) -> Exporter:
        """Return the next process on the same ledger."""
        return Exporter(self.series, self.now + 1)


def test_a_new_series_is_shown_as_0_once_and_then_with_its_value() -> None:
    """Whether its first events come before or after the scraper's first scrape."""
    exporter = Exporter()
    exporter.count("a", 5)
    assert exporter.scrape("p") == {"a": 0}
    exporter.count("b", 7)
    assert exporter.scrape("p") == {"a": 5, "b": 0}
    exporter.count("b")
    assert exporter.scrape("p") == {"a": 5, "b": 8}


def test_others_see_the_truth_at_once() -> None:
    """A person, a health check or another tool is shown what is committed, and takes nothing from a scraper."""
    exporter = Exporter()
    exporter.scrape("p")
    exporter.count("a", 5)
    assert exporter.scrape() == {"a": 5}
    assert exporter.scrape("p") == {"a": 0}
    assert exporter.scrape() == {"a": 5}


def test_each_scraper_is_shown_the_0() -> None:
    """Two that both came before see it each, in whatever order they come."""
    exporter = Exporter()
    for scraper in ("p", "q"):
        exporter.scrape(scraper)
    exporter.count("a", 5)
    assert [exporter.scrape(s) for s in ("p", "p", "q", "q")] == [{"a": 0}, {"a": 5}, {"a": 0}, {"a": 5}]


def test_a_stranger_is_shown_the_0_only_where_nobody_was_shown_a_value() -> None:
    """It may be a scraper that saw the value and has another address now."""
    exporter = Exporter()
    exporter.count("a", 5)
    assert exporter.scrape("p") == {"a": 0}
    assert exporter.scrape("q") == {"a": 0}
    assert exporter.scrape("p") == {"a": 5}
    exporter.count("b", 7)
    assert exporter.scrape("r") == {"a": 5, "b": 0}


def test_what_was_there_at_the_start_is_never_shown_as_0() -> None:
    """Over restarts no counter falls, whatever the clock did: what a former process created is old."""
    exporter = Exporter()
    exporter.count("a", 5)
    exporter.scrape("p")
    exporter.scrape("p")
    exporter.series["from the future"] = (9, exporter.now + 1_000_000)
    successor = exporter.restart()
    assert successor.scrape("p") == {"a": 5, "from the future": 9}
    successor.count("b", 7)
    assert successor.scrape("p") == {"a": 5, "from the future": 9, "b": 0}


def test_a_new_speaker_shows_no_0_for_what_was_created_before() -> None:
    """Another process may have shown it with its value."""
    exporter = Exporter()
    exporter.scrape("p")
    exporter.count("a", 5)
    exporter.since = exporter.now + 1
    assert exporter.scrape("p") == {"a": 5}
    assert exporter.scrape("q") == {"a": 5}


def test_a_lease_that_begins_while_an_exposition_is_made_counts_for_it() -> None:
    """The ledger's series come into it with the lease, and another process may have shown them with their values."""
    exporter = Exporter()
    exporter.scrape("p")
    exporter.count("a", 5)
    new_series = exporter.zero_first.new_series(exporter.zero_first.view("p"))
    exporter.since = exporter.now + 1
    shown = encoded(exporter.registry, Wanted(TEXT), created_timestamps=False, new_series=new_series)
    assert b'events_total{type="a"} 5.0' in b"".join(shown)


def test_a_scraper_is_shown_nothing_older_after_its_first_0_of_a_series() -> None:
    """Its view is then that of a scraper that came before it, for which an older exposition may be there still."""
    exporter = Exporter({"old": (9, STARTED)}, since=STARTED + 1)
    expositions = Expositions(
        exporter.registry,
        created_timestamps=False,
        zero_first=exporter.zero_first,
        busy=lambda: True,
        monotonic=lambda: exporter.now,
    )

    async def old_events_shown(scraper: str) -> float:
        view = exporter.zero_first.view(scraper)
        exposition = await expositions.get(Wanted(TEXT, view=view))
        exporter.zero_first.shown(view, exposition.up_to, scraper)
        return float(exposition.body.partition(b'events_total{type="old"} ')[2].split()[0])

    async def story() -> None:
        for scraper in ("p", "q"):
            await old_events_shown(scraper)
        exporter.count("new")
        await old_events_shown("q")
        exporter.now += 1
        assert await old_events_shown("q") == 9
        exporter.series["old"] = (10, STARTED)
        exporter.now += 0.5
        assert await old_events_shown("p") == 10
        exporter.now += 0.1
        assert await old_events_shown("p") == 10

    asyncio.run(story())


def test_only_the_named_counters_begin_at_0() -> None:
    """Other families of new labels are shown as they are."""
    exporter = Exporter()
    exporter.count("a", 5)
    view = exporter.zero_first.view("p")
    new_series = exporter.zero_first.new_series(view)
    text = b"".join(encoded(exporter.registry, Wanted(TEXT), created_timestamps=False, new_series=new_series)).decode()
    assert 'events_total{type="a"} 0.0' in text
    assert 'other_total{type="a"} 5.0' in text
    assert "_created" not in text


def test_a_scrape_of_some_names_counts_as_well() -> None:
    """Where the counters are not among them nothing is used up; where they are, nothing falls later."""
    exporter = Exporter()
    exporter.count("a", 5)
    assert exporter.scrape("p", OTHER) == {}
    assert exporter.scrape("p", "events_total") == {"a": 0}
    assert exporter.scrape("p", "events_total") == {"a": 5}
    assert exporter.scrape("p") == {"a": 5}
    exporter.count("b", 7)
    assert exporter.scrape("p", "events_total") == {"a": 5, "b": 0}
    assert exporter.scrape("p") == {"a": 5, "b": 7}


def test_a_scraper_that_did_not_come_for_long_is_a_stranger() -> None:
    """Its address may be another's by now, who saw the values elsewhere."""
    exporter = Exporter()
    exporter.scrape("p")
    exporter.count("a", 5)
    exporter.scrape("q")
    exporter.scrape("q")
    exporter.now += FORGET_SECONDS
    assert exporter.scrape("p") == {"a": 5}


def test_scrapers_without_end_do_not_fill_the_memory() -> None:
    """A few are remembered: those that came last."""
    exporter = Exporter()
    exporter.scrape("p")
    for n in range(MAX_SCRAPERS):
        exporter.scrape(f"stranger {n}")
    exporter.count("a", 5)
    exporter.scrape()
    assert exporter.scrape("p") == {"a": 5}
    assert exporter.scrape(f"stranger {MAX_SCRAPERS - 1}") == {"a": 0}


@pytest.mark.parametrize("seed", range(200))
def test_nothing_that_a_scraper_was_shown_ever_falls(seed: int) -> None:
    """Types born at any time, scrapers that come, go and change their addresses, curious people, and restarts."""
    chance = random.Random(seed)  # noqa: S311 - a sample, no secret
    exporter = Exporter()
    addresses = {name: f"{name}0" for name in "pqr"}
    seen: dict[str, dict[str, float]] = {name: {} for name in addresses}
    for step in range(200):
        match chance.choice(("count", "count", "scrape", "scrape", "scrape", "look", "move", "restart", "wait")):
            case "count":
                exporter.count(f"type {chance.randrange(12)}", chance.randrange(1, 5))
            case "scrape":
                name = chance.choice("pqr")
                shown = exporter.scrape(addresses[name])
                for event_type, value in seen[name].items():
                    assert shown[event_type] >= value
                for event_type, value in shown.items():
                    assert value in (0, exporter.series[event_type][0])
                seen[name] = shown
            case "look":
                assert exporter.scrape() == {event_type: value for event_type, (value, _) in exporter.series.items()}
            case "move":
                addresses[chance.choice("pqr")] = f"address {step}"
            case "restart" if chance.random() < 0.2:
                exporter = exporter.restart()
            case "wait":
                exporter.now += chance.choice((1, 60, FORGET_SECONDS))
