"""Our own encoder against prometheus_client's, and what sharing an exposition means."""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, Summary
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily
from prometheus_client.exposition import generate_latest as encode_text
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.registry import Collector

from exporter.web.exposition import MAX_AGE_SECONDS, Exposition, Expositions, Wanted, encoded
from exporter.web.negotiation import TEXT, Format, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.web.encoding import Written

ESCAPINGS = ("underscores", "allow-utf-8", "dots", "values")
FORMATS = [TEXT, *(Format(kind, escaping) for kind in Kind for escaping in ESCAPINGS)]
NUMBERS = (0, 1, 3.0, 0.1, -1.5, 123456.5, 999999.0, 1e6, 1234567.25, 1e15, 1e16, 1e21, 1e-7, -1e9, 2**70, 1.7e9)
NAMES = ("type", "queue", "a", "Z_9", "ünïcode", "with space", "9x", "")


class Families(Collector):
    """A registry of given families."""

    def __init__(self, *families: Metric) -> None:
        self.families = families
        self.collected = 0

    def collect(self) -> Iterable[Metric]:
        """Give them."""
        self.collected += 1
        return self.families


def text_of(registry: Any, format_: Format, *, created_timestamps: bool = False) -> bytes:  # noqa: ANN401 - a registry or what stands for one
    """Encode with our own."""
    return b"".join(encoded(registry, Wanted(format_), created_timestamps=created_timestamps))


def text_of_the_library(registry: Any, format_: Format) -> bytes:  # noqa: ANN401 - as above
    """Encode with prometheus_client's."""
    escaping = format_.escaping or "underscores"
    if format_.kind is Kind.OPENMETRICS:
        text: bytes = encode_openmetrics(registry, escaping=escaping, version="1.0.0")
        return text
    return encode_text(registry, escaping=escaping)


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: f"{format_.kind.name} {format_.escaping}")
def test_the_text_is_the_librarys_to_the_byte(format_: Format) -> None:
    """All kinds of families, more samples than one slice, special characters, exemplars, timestamps and odd names."""
    registry = CollectorRegistry()
    many = Gauge("many", 'Help with "quotes", \\ and\nlines.', ("type", "n"), registry=registry)
    for n in range(1203):
        many.labels('a "quoted" \\ type\n' if n % 7 == 0 else f"☃{n}", n).set(NUMBERS[n % len(NUMBERS)])
    Histogram("seconds", "H.", ("op",), registry=registry).labels("x").observe(0.3)
    Summary("sizes", "S.", registry=registry).observe(2)
    Info("build", "I.", registry=registry).info({"version": "1"})
    Gauge("odd", "O.", registry=registry).set(float("nan"))
    Gauge("infinite", "O.", registry=registry).set(float("-inf"))
    for name in ("späte.zahl", "under_score"):
        family = GaugeMetricFamily(name, "G.", labels=("späte.label",))
        family.add_metric(("x",), 1)
        registry.register(Families(family))
    timed = GaugeMetricFamily("timed", "T.", labels=("a",))
    timed.add_metric(("x",), 1, timestamp=1234.5)
    timed.add_metric(("y",), 2)
    registry.register(Families(timed))
    pointed = CounterMetricFamily("pointed", "P.")
    pointed.add_sample("pointed_total", {}, 3, exemplar=Exemplar({"trace_id": "abc"}, 1.0))
    registry.register(Families(pointed))
    # A counter of prometheus_client has a creation time, which the library always shows.
    assert text_of(registry, format_) == b"".join(
        line
        for line in text_of_the_library(registry, format_).splitlines(keepends=True)
        if b"_created" not in line and b"__created" not in line
    )


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: f"{format_.kind.name} {format_.escaping}")
@settings(deadline=None)
@given(data=st.data())
def test_any_sample_is_written_as_the_library_writes_it(format_: Format, data: st.DataObject) -> None:
    """Numbers, label values and label names of all kinds."""
    family = Metric("x", "X.", data.draw(st.sampled_from(("gauge", "counter"))))
    names = data.draw(st.sampled_from([(), ("type",), ("type", "queue"), NAMES]))
    texts = st.text(st.characters(exclude_categories=["Cs"]))
    for _ in range(data.draw(st.integers(0, 3))):
        value = data.draw(st.floats() | st.integers(-(2**60), 2**60) | st.sampled_from(NUMBERS))
        suffix = "_total" if family.type == "counter" else ""
        family.add_sample(f"x{suffix}", {name: data.draw(texts) for name in names}, value)
    registry = Families(family)
    assert text_of(registry, format_) == text_of_the_library(registry, format_)


def test_created_timestamps_are_those_of_the_library() -> None:
    """Where they are wanted, OpenMetrics has them and nothing else changes."""
    registry = CollectorRegistry()
    counter = Counter("apples", "A.", ("type",), registry=registry)
    for n in range(1001):
        counter.labels(n).inc(n)
    format_ = Format(Kind.OPENMETRICS, "allow-utf-8")
    assert text_of(registry, format_, created_timestamps=True) == text_of_the_library(registry, format_)


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: f"{format_.kind.name} {format_.escaping}")
def test_what_has_not_changed_is_not_written_again_and_is_the_librarys_to_the_byte(format_: Format) -> None:
    """Of 1,203 samples one changes, one goes and one is left to the library; then it is another family's turn."""
    written: dict[str, list[Written]] = {}

    def check(registry: Families) -> list[Written]:
        text = b"".join(encoded(registry, Wanted(format_), created_timestamps=False, written=written))  # type: ignore[arg-type]
        assert text == text_of_the_library(registry, format_)
        return written.get("g", [])

    registry = gauges(1203)
    (family,) = registry.families
    first = check(registry)
    family.samples[600] = family.samples[600]._replace(value=-1)
    second = check(registry)
    if format_.escaping in {"dots", "values"}:
        assert written == {}
    else:
        assert [one is before for one, before in zip(second, first, strict=True)] == [True, False, True]
    del family.samples[1]
    check(registry)
    family.samples[600] = family.samples[600]._replace(timestamp=1234.5)
    check(registry)
    check(gauges(700))


# Sharing


def make(registry: Any, **settings: Any) -> Expositions:  # noqa: ANN401 - as above
    """Make expositions of a registry."""
    return Expositions(registry, created_timestamps=False, **settings)


def gauges(count: int) -> Families:
    """Make a registry that may take several slices."""
    family = GaugeMetricFamily("g", "G.", labels=("n",))
    for n in range(count):
        family.add_metric((str(n),), n)
    return Families(family)


def test_all_who_ask_while_it_is_made_get_the_same_one() -> None:
    """A hundred requests cost one collection, and gzip is done once."""
    registry = gauges(5000)

    async def ask() -> list[Exposition]:
        expositions = make(registry)
        return await asyncio.gather(*(expositions.get(Wanted(TEXT)) for _ in range(100)))

    found = asyncio.run(ask())
    assert registry.collected == 1
    assert len({id(exposition) for exposition in found}) == 1
    assert gzip.decompress(found[0].packed) == found[0].body
    assert found[0].packed is found[0].packed


def test_formats_and_names_are_not_mixed_up() -> None:
    """Only requests for the same text share one."""
    registry = CollectorRegistry()
    for name in ("apples", "pears"):
        Gauge(name, "X.", registry=registry).set(1)
    wanted = [
        Wanted(TEXT),
        Wanted(Format(Kind.OPENMETRICS)),
        Wanted(TEXT, frozenset({"pears"})),
        Wanted(TEXT, frozenset({"apples"})),
    ]

    async def ask() -> list[Exposition]:
        expositions = make(registry)
        return await asyncio.gather(*(expositions.get(one) for one in wanted))

    found = asyncio.run(ask())
    assert [exposition.body for exposition in found] == [
        b"".join(
            encoded(
                registry.restricted_registry(one.names) if one.names else registry,  # type: ignore[arg-type]
                Wanted(one.format),
                created_timestamps=False,
            )
        )
        for one in wanted
    ]
    assert len({exposition.body for exposition in found}) == len(wanted)


@pytest.mark.parametrize(
    ("took", "busy", "shown"),
    [(0.001, False, 0.02), (0.02, False, 0.4), (0.5, False, MAX_AGE_SECONDS), (0.001, True, MAX_AGE_SECONDS)],
)
def test_it_is_shown_for_some_times_what_it_took_and_never_longer_than_a_second(
    took: float, *, busy: bool, shown: float
) -> None:
    """Ordinary ones are fresh for nearly every request; large ones can't be made more often than is good.

    While the server is busy none is made more often than need be.
    """
    now, cpu = [100.0], [0.0]

    class Slow(Families):
        def collect(self) -> Iterable[Metric]:
            cpu[0] += took
            return super().collect()

    registry = Slow(*gauges(1).families)

    async def ask(at: float, collected: int) -> None:
        now[0] = at
        await expositions.get(Wanted(TEXT))
        for _ in range(5):
            await asyncio.sleep(0)
        assert registry.collected == collected

    async def story() -> None:
        await ask(100.0, 1)
        await ask(100.0 + shown / 2 - 0.0001, 1)
        await ask(100.0 + shown / 2 + 0.0001, 2)  # in time for who asks next
        await ask(100.0 + 1.2 * shown, 3)
        await ask(100.0 + 5 * shown, 4)

    expositions = make(registry, busy=lambda: busy, monotonic=lambda: now[0], cpu_seconds=lambda: cpu[0])
    asyncio.run(story())


def test_a_failure_is_told_to_all_who_waited_and_not_remembered() -> None:
    """The next request tries again."""
    broken = [True]

    class Broken(Families):
        def collect(self) -> Iterable[Metric]:
            yield from gauges(1000).collect()
            if broken[0]:
                raise RuntimeError("the pears are gone")

    async def ask() -> None:
        expositions = make(Broken())
        asked = [expositions.get(Wanted(TEXT)) for _ in range(3)]
        assert {str(error) for error in await asyncio.gather(*asked, return_exceptions=True)} == {"the pears are gone"}
        broken[0] = False
        assert b"g{" in (await expositions.get(Wanted(TEXT))).body

    asyncio.run(ask())


def test_an_exposition_that_is_made_ahead_and_fails_is_told_to_nobody() -> None:
    """Nobody waits for it: whoever asks once the last one is too old tries again, and is told."""
    now = [100.0]
    told: list[object] = []

    class Failing(Families):
        def collect(self) -> Iterable[Metric]:
            if super().collect() and self.collected > 1:
                raise RuntimeError("the pears are gone")
            return self.families

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        registry = Failing(*gauges(1).families)
        expositions = make(registry, busy=lambda: True, monotonic=lambda: now[0])
        await expositions.get(Wanted(TEXT))
        now[0] += 0.6 * MAX_AGE_SECONDS
        await expositions.get(Wanted(TEXT))
        for _ in range(5):
            await asyncio.sleep(0)
        assert registry.collected == 2
        gc.collect()
        now[0] += MAX_AGE_SECONDS
        with pytest.raises(RuntimeError):
            await expositions.get(Wanted(TEXT))

    asyncio.run(ask())
    assert told == []


def test_who_leaves_does_not_take_it_from_the_others() -> None:
    """A request that is given up while the exposition is made leaves it to those who wait."""

    async def ask() -> None:
        expositions = make(gauges(5000))
        first = asyncio.create_task(expositions.get(Wanted(TEXT)))
        second = asyncio.create_task(expositions.get(Wanted(TEXT)))
        await asyncio.sleep(0)
        first.cancel()
        assert b"g{" in (await second).body

    asyncio.run(ask())


def test_names_made_up_by_strangers_do_not_fill_the_memory() -> None:
    """A few expositions are remembered, however many are asked for."""
    registry = CollectorRegistry()
    now = [0.0]

    async def ask() -> None:
        expositions = make(registry, monotonic=lambda: now[0])
        for n in range(1000):
            await expositions.get(Wanted(TEXT, frozenset({f"name_{n}"})))
        assert len(expositions) <= 16

    asyncio.run(ask())


def test_ten_thousand_types_are_encoded_in_steps_of_milliseconds() -> None:
    """Between two steps the event loop looks at the time; no step takes the interpreter for more than 20 ms of it.

    Of each step it is the best of three that counts: what a step has to do is always the same, and whatever else the
    processor was busy with is not the step's.
    """
    registry = gauges(40_000)
    gc.freeze()  # as `run` does, or what is measured is a look through all that the tests have made
    try:
        runs = [step_seconds(registry) for _ in range(3)]
    finally:
        gc.unfreeze()
    steps = [min(step) for step in zip(*runs, strict=True)]
    assert len(steps) > 40
    assert max(steps) < 0.02


def step_seconds(registry: Families) -> list[float]:
    """Encode all; return the CPU time of each step."""
    steps: list[float] = []
    slices = encoded(registry, Wanted(TEXT), created_timestamps=False)  # type: ignore[arg-type]
    while True:
        began = time.thread_time()
        if next(slices, None) is None:
            return steps
        steps.append(time.thread_time() - began)
