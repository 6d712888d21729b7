"""What is measured, one function a question. Each checks that all was counted exactly before it gives a figure."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stub_events import Load
from subject import Subject, boto3_loop, exporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stub_sqs import StubSqs

SETTLE_SECONDS = 1.5
"""What a program owes after the last delete (the ledger's flush) is done by then, and belongs to its CPU time."""
SCRAPE_EVERY_SECONDS = 0.1
LATENCY_SECONDS = 0.02
MANY_RECEIVES = ("--sqs.max-receives", "32")
MANY_TYPES = 200
START_ROUNDS = 3
WHOLE_ROUNDS = 3
WHOLE_RUN_SECONDS = 300


@dataclass(frozen=True)
class Run:
    """One program under one load."""

    name: str
    messages_per_second: float
    cpu_us: float
    """User and system time a message."""
    stub_cpu_us: float
    peak_megabytes: float
    widened_after_seconds: dict[int, float]
    scrapes_seconds: tuple[float, ...] = ()

    def scrape_ms(self, percent: int) -> float:
        """Return a percentile of the scrapes under load, in milliseconds."""
        return statistics.quantiles(self.scrapes_seconds, n=100, method="inclusive")[percent - 1] * 1000


class Round(NamedTuple):
    """The loop and the exporter in several ways, measured one after the other."""

    one: Run
    """The loop with one thread."""
    four: Run
    """With four."""
    ours: Run
    """The exporter with 32 receives in flight."""
    default: Run
    """With its default of 16."""
    tls: Run
    """With 32, over TLS."""


@dataclass(frozen=True)
class Start:
    """How long it takes from the start of the process to its first receive, with nothing and with much remembered."""

    empty_seconds: float
    full_seconds: float


def load(stub: StubSqs, subject: Subject, what: Load, *, scrape: bool = False) -> Run:
    """Let the program come to rest in a long poll, then put the load into the queue."""
    with subject:
        subject.listening()
        stub.next_receive()
        time.sleep(SETTLE_SECONDS)
        cpu_before = subject.cpu_seconds()
        stub.load(what)
        scrapes: list[float] = []
        over = threading.Event()
        scraper = threading.Thread(target=_scrape, args=(subject, scrapes, over))
        if scrape:
            scraper.start()
        report = stub.finished()
        over.set()
        if scrape:
            scraper.join()
        time.sleep(SETTLE_SECONDS)
        cpu_seconds = subject.cpu_seconds() - cpu_before
        peak_megabytes = subject.peak_megabytes()
        subject.stop()
    subject.check(report.totals)
    return Run(
        subject.name,
        what.messages / report.seconds,
        cpu_seconds / what.messages * 1e6,
        report.cpu_seconds / what.messages * 1e6,
        peak_megabytes,
        report.widened_after_seconds,
        tuple(scrapes),
    )


def ledgers(directory: Path) -> Iterator[Path]:
    """Name a new ledger each time."""
    number = 0
    while True:
        number += 1
        yield directory / f"ledger-{number}.db"


def loopback(stub: StubSqs, stub_with_tls: StubSqs, names: Iterator[Path], messages: int) -> Round:
    """Measure the loop and the exporter on loopback."""
    yardstick, what = Load(messages // 8), Load(messages)
    stub.watch()
    one = load(stub, boto3_loop(stub, 1), yardstick)
    stub.watch()
    four = load(stub, boto3_loop(stub, 4), yardstick)
    stub.watch()
    ours = load(stub, exporter(stub, next(names), *MANY_RECEIVES), what)
    stub.watch()
    default = load(stub, exporter(stub, next(names)), what)
    stub_with_tls.watch()
    tls = load(stub_with_tls, exporter(stub_with_tls, next(names), *MANY_RECEIVES), what)
    return Round(one, four, ours, default, tls)


def at_a_distance(stub: StubSqs, ledger: Path, messages: int) -> tuple[Run, Run]:
    """Measure the loop with four threads and the exporter where each answer takes 20 ms."""
    stub.watch()
    four = load(stub, boto3_loop(stub, 4), Load(messages // 50, latency_seconds=LATENCY_SECONDS))
    stub.watch()
    return four, load(stub, exporter(stub, ledger, *MANY_RECEIVES), Load(messages, latency_seconds=LATENCY_SECONDS))


def many_types(stub: StubSqs, ledger: Path, messages: int) -> tuple[Run, Run]:
    """Scrape the loop and the exporter under load with 200 types. The exporter remembers every message after it."""
    stub.watch()
    one = load(stub, boto3_loop(stub, 1), Load(messages // 100, MANY_TYPES), scrape=True)
    stub.watch()
    return one, load(stub, exporter(stub, ledger), Load(messages, MANY_TYPES), scrape=True)


def start(stub: StubSqs, empty: Path, full: Path) -> Start:
    """Start on a new ledger and on one that remembers much; medians."""
    seconds: dict[Path, list[float]] = {empty: [], full: []}
    stub.load(Load(0))
    for _ in range(START_ROUNDS):
        for ledger, took in seconds.items():
            stub.watch()
            with exporter(stub, ledger) as subject:
                took.append(stub.next_receive() - subject.started_at)
                subject.stop()
    return Start(statistics.median(seconds[empty]), statistics.median(seconds[full]))


def whole_run(stub: StubSqs, subject: Subject, messages: int) -> float:
    """Return the seconds that a program which ends when the queue is empty takes, from its start to its end."""
    with subject:
        ended = subject.ended(WHOLE_RUN_SECONDS)
    report = stub.finished()
    if report.deleted != messages:
        raise RuntimeError(f"{report.deleted} of {messages} messages were deleted")
    subject.check(report.totals)
    return ended.seconds


def until_empty(stub: StubSqs, names: Iterator[Path], threads: int, messages: int) -> tuple[float, float]:
    """Return how many seconds the loop and the exporter take, as whole processes, for so many messages; medians."""
    loop_seconds, seconds = [], []
    for _ in range(WHOLE_ROUNDS):
        stub.load(Load(messages))
        loop_seconds.append(whole_run(stub, boto3_loop(stub, threads, "--until-empty"), messages))
        stub.load(Load(messages))
        seconds.append(whole_run(stub, exporter(stub, next(names), "--until-empty", *MANY_RECEIVES), messages))
    return statistics.median(loop_seconds), statistics.median(seconds)


def paced(stub: StubSqs, ledger: Path, per_second: int, seconds: int) -> Run:
    """Measure the exporter under a steady stream, with 10 ms added to every answer."""
    stub.watch()
    what = Load(per_second * seconds, latency_seconds=LATENCY_SECONDS / 2, per_second=per_second)
    return load(stub, exporter(stub, ledger), what)


def idle(stub: StubSqs, ledger: Path, seconds: int) -> tuple[int, float]:
    """Return how many receives an idle exporter makes in so many seconds, and the part of a core it takes."""
    stub.load(Load(0))
    stub.watch()
    with exporter(stub, ledger) as subject:
        stub.next_receive()
        time.sleep(SETTLE_SECONDS)
        receives_before, cpu_before = stub.receives(), subject.cpu_seconds()
        time.sleep(seconds)
        receives, cpu_seconds = stub.receives() - receives_before, subject.cpu_seconds() - cpu_before
        subject.stop()
    return receives, cpu_seconds / seconds


def _scrape(subject: Subject, took: list[float], over: threading.Event) -> None:
    while not over.wait(SCRAPE_EVERY_SECONDS):
        took.append(subject.scrape_seconds())
