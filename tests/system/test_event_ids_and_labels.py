"""Events' own ids and labels through the whole program, and what turning them on and off does to a living ledger."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from exporter_process import ExporterProcess, Scrape
from fake_sqs import FakeSqs
from outages import DELETES, SHORT_WAIT, Case, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WITH_IDS = ("--events.id-field", "id")
VISIBILITY_SECONDS = 30
HOSTILE = [
    "de",
    "",
    "é",
    "__other__",
    "__mine",
    "a\u0000b",
    "\ud800",
    "x" * 500,
    'quo"te\\',
    7,
    1.5,
    True,
    None,
    [1],
    {},
]
"""Label values: text and what is shown as text, and what can't be a label."""


def event(**fields: object) -> str:
    """Return a body; its value is exact as a float, so that sums of series are."""
    return json.dumps({"type": "purchase", "value": 0.25, **fields})


def by_type(scrape: Scrape, name: str = "sqs_events_total") -> dict[str, float]:
    """Return the sum over all label sets, by type."""
    sums: Counter[str] = Counter()
    for (found, has), value in scrape.samples.items():
        if found == name and value:
            sums[dict(has)["type"]] += value  # type: ignore[assignment]  # floats
    return dict(sums)


def by_labels(scrape: Scrape, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the counts that are not 0, by the values of these labels."""
    return {
        tuple(dict(has)[label] for label in labels): value
        for (found, has), value in scrape.samples.items()
        if found == "sqs_events_total" and value
    }


def summary_of(exporter: ExporterProcess) -> dict[str, tuple[int, float]]:
    """Return count and sum of each type's last line."""
    return {line["type"]: (line["count"], line["sum"]) for line in map(json.loads, exporter.stdout)}


class Living:
    """One ledger and one queue over several runs. No delete succeeds: all that was sent is in the queue for good."""

    def __init__(self, sqs: FakeSqs, ledger: Path) -> None:
        self.sqs = sqs
        self._ledger = ledger

    @contextmanager
    def run(self, *flags: str) -> Iterator[ExporterProcess]:
        """Let all come back that was sent before, and begin: each is a duplicate."""
        self.sqs.advance(VISIBILITY_SECONDS + 1)
        before, sent = self.sqs.account().deliveries, self.sqs.account().sent
        with ExporterProcess(self.sqs.environment, self._ledger, *SHORT_WAIT, *flags) as exporter:
            counted = exporter.scrape().counted
            scrape = exporter.wait_for(lambda scrape: scrape.received >= before + sent)
            assert scrape.counted == counted, "a redelivery changes no count"
            yield exporter
            assert exporter.terminate() == 0

    def send(self, exporter: ExporterProcess, *bodies: str) -> Scrape:
        """Send new messages and wait until they are received; returns the scrape."""
        received = exporter.scrape().received
        self.sqs.send(bodies)
        return exporter.wait_for(lambda scrape: scrape.received >= received + len(bodies))


@contextmanager
def living(ledger: Path) -> Iterator[Living]:
    """Give a ledger and a queue that live on; in the end all is deleted, and counted as it was."""
    with FakeSqs() as sqs:
        fault = sqs.fault("error", DELETES, code="ServiceUnavailable")
        yield Living(sqs, ledger)
        sqs.clear(fault)
        sqs.advance(VISIBILITY_SECONDS + 1)
        with ExporterProcess(sqs.environment, ledger, *SHORT_WAIT) as exporter:
            counted = exporter.scrape().counted
            sqs.wait_until(lambda account: account.deleted == account.sent)
            assert exporter.scrape().counted == counted


def the_event_s_own_id_is_turned_on_and_off(ledger: Path) -> None:
    """No message counts twice; an event counts once while its id is read, and what was known of it stays known."""
    with living(ledger) as life:
        with life.run() as exporter:
            assert life.send(exporter, event(id="a"), event(id="a")).counted == 2
        with life.run(*WITH_IDS) as exporter:
            assert life.send(exporter, event(id="b"), event(id="b"), event()).counted == 4
            assert exporter.scrape().total("sqs_exporter_events_without_id_total") == 1
        with life.run() as exporter:
            assert life.send(exporter, event(id="b"), event(id="c")).counted == 6
        with life.run(*WITH_IDS) as exporter:
            assert life.send(exporter, event(id="b"), event(id="d"), event(id="d")).counted == 7
        with life.run(*WITH_IDS, "--events.labels", "country") as exporter:
            assert life.send(exporter, event(id="d", country="de"), event(id="e", country="de")).counted == 8


def labels_are_added_reordered_and_removed(ledger: Path) -> None:
    """Find what was counted without a label under its empty value, and by type all that was sent."""
    with living(ledger) as life:
        with life.run() as exporter:
            life.send(exporter, event(country="de", currency="eur"))
        with life.run("--events.labels", "country") as exporter:
            scrape = life.send(exporter, event(country="de", currency="eur"))
            assert by_labels(scrape, "country") == {("",): 1, ("de",): 1}
        with life.run("--events.labels", "currency,country") as exporter:
            scrape = life.send(exporter, event(country="de", currency="eur"))
            assert by_labels(scrape, "country", "currency") == {("", ""): 1, ("de", ""): 1, ("de", "eur"): 1}
        with life.run("--events.labels", "country,currency") as exporter:
            scrape = life.send(exporter, event(country="de", currency="eur"))
            assert by_labels(scrape, "country", "currency") == {("", ""): 1, ("de", ""): 1, ("de", "eur"): 2}
        with life.run("--events.labels", "currency") as exporter:
            assert by_labels(exporter.scrape(), "currency") == {("",): 2, ("eur",): 2}
        with life.run() as exporter:
            assert by_type(exporter.scrape()) == {"purchase": 4}
            assert by_type(exporter.scrape(), "sqs_event_value_total") == {"purchase": 1.0}


def duplicates_that_a_producer_sends_count_twice_without_its_id(ledger: Path) -> None:
    """Take a retry of SendMessage for what it is, another message: nothing else tells the two apart."""
    twice(ledger, 600)


def duplicates_that_a_producer_sends_count_once_with_its_id(ledger: Path) -> None:
    """However they arrive: in one batch, in another, or after their delete."""
    twice(ledger, 300, *WITH_IDS)


def twice(ledger: Path, counted: int, *flags: str) -> None:
    """Send 300 events twice, at a queue that hands out duplicates of its own too; compare with all surfaces."""
    bodies = [event(id=f"order-{number}") for number in range(300)]
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, *flags) as exporter:
        sqs.behave(duplicate_across_batches=0.2, return_after_delete=0.2)
        sqs.send(bodies)
        exporter.wait_for(lambda scrape: scrape.counted == 300)
        sqs.send(bodies)
        sqs.wait_until(lambda account: account.deleted == 600 and account.remaining == 0)
        scrape = exporter.wait_for(lambda scrape: scrape.received == sqs.account().deliveries)
        assert scrape.counted == counted
        assert by_type(scrape, "sqs_event_value_total") == {"purchase": counted * 0.25}
        assert exporter.terminate() == 0
        assert summary_of(exporter) == {"purchase": (counted, counted * 0.25)}


def both_caps_keep_sums_exact_whatever_strangers_send(ledger: Path) -> None:
    """Series are bounded, `sum by (type)` is exact for each admitted type, and is what stdout says; so after a kill."""
    chosen = random.Random(1)  # noqa: S311 - a test's data, the same each time
    names = [f"type-{number}" for number in range(30)]
    bodies: list[str] = []
    sent: Counter[str] = Counter()
    for number in range(4_000):
        name = chosen.choice(names)
        sent[name] += 1
        labels: dict[str, Any] = {"a": chosen.choice(HOSTILE), "b": f"stranger-{number % 500}"}
        bodies.append(event(type=name, **labels))
    caps = ("--events.labels", "a,b", "--events.max-types", "10", "--events.max-series", "50")
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, *SHORT_WAIT, *caps) as exporter:
        sqs.send(bodies[:2_000])
        exporter.wait_for(lambda scrape: scrape.counted >= 1_000)
        exporter.restart()
        sqs.send(bodies[2_000:])
        sqs.advance(VISIBILITY_SECONDS + 1)
        scrape = exporter.wait_for(lambda scrape: scrape.counted == 4_000)
        counts = by_type(scrape)
        values = by_type(scrape, "sqs_event_value_total")
        admitted = counts.keys() - {"__other__"}
        assert len(admitted) == 10
        assert {name: counts[name] for name in admitted} == {name: sent[name] for name in admitted}
        assert counts["__other__"] == sum(count for name, count in sent.items() if name not in admitted)
        assert values == {name: count * 0.25 for name, count in counts.items()}
        overflowed = scrape.by("sqs_exporter_events_overflowed_total", "limit")
        assert overflowed["types"] == counts["__other__"]
        sets = by_labels(scrape, "type", "a", "b")
        assert overflowed["series"] == sum(count for key, count in sets.items() if key[1] == "__other__" != key[0])
        assert sum("__other__" not in key for key in sets) == 50
        assert len(sets) <= 50 + 10 + 1
        assert exporter.terminate() == 0
        exporter.start()
        assert by_type(exporter.scrape()) == counts
        assert summary_of(exporter) == {name: (count, values[name]) for name, count in counts.items()}


CASES = (
    the_event_s_own_id_is_turned_on_and_off,
    labels_are_added_reordered_and_removed,
    both_caps_keep_sums_exact_whatever_strangers_send,
    duplicates_that_a_producer_sends_count_twice_without_its_id,
    duplicates_that_a_producer_sends_count_once_with_its_id,
)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_ids_and_labels_keep_counts_exact(case: Case, outcome: Callable[[Case], None]) -> None:
    """See the case's own sentence."""
    outcome(case)
