"""What a steady stream costs: requests, which AWS bills, time in the queue, and CPU; the exporter beside a boto3 loop.

    python benchmarks/stream.py                       # some minutes; writes "What AWS bills" in docs/performance.md
    python benchmarks/stream.py --rates 10,100 --seconds 15 --against ../before --print-only

Each answer takes 10 ms, and long polls wait as those of SQS do: until a message is there, and no longer. With
`--against` the exporter of another checkout runs beside, in the same Python environment.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import bill
import page
from bill import Case, Program, Stream
from report import machine
from scenarios import SETTLE_SECONDS, load
from stub_events import Load
from stub_sqs import StubSqs
from subject import boto3_loop, exporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from subject import Subject

RATES = (1, 10, 100, 1_000, 10_000)
"""Messages a second."""
LATENCY_SECONDS = 0.01
WARM_UP_SECONDS = 4
"""Not measured: the rate has to be found out first, and a test is short where a month is long."""
SECONDS = 20
FEWEST_MESSAGES = 60
"""So a stream of one message a second runs for a minute."""
MOST_MESSAGES = 100_000
AT_ONCE_UP_TO = 10
"""Streams of so many messages a second take so little CPU that all of them run at once."""
LONG_POLL_SECONDS = 20
"""What the exporter asks for by default, and everybody should."""
CAPACITY_MESSAGES = 3_000


def measure(
    directory: Path, rates: Iterable[int], seconds: float, programs: Sequence[Program], against: Path | None = None
) -> bill.Bill:
    """Measure the programs at all rates, with both kinds of arrival."""
    capacity = {threads: _capacity(threads) if "loop" in programs else 0.0 for threads in (1, 4)}
    found: dict[Case, Stream] = {}
    for per_second in rates:
        print(f"measuring: {per_second:,} messages a second", file=sys.stderr, flush=True)
        cases = [Case(per_second, poisson, program) for poisson in (False, True) for program in programs]
        if per_second > capacity[4]:
            cases = [case for case in cases if case.program != "loop"]

        def run(case: Case) -> Stream:
            return _run(case, directory, seconds, threads=_threads(case.per_second, capacity), against=against)

        with ThreadPoolExecutor(len(cases) if per_second <= AT_ONCE_UP_TO else 1) as pool:
            found.update(zip(cases, pool.map(run, cases), strict=True))
    return bill.Bill(machine(directory), capacity, found)


def _threads(per_second: float, capacity: dict[int, float]) -> int:
    return 1 if per_second < capacity[1] else 4


def _capacity(threads: int) -> float:
    """Return how many messages a second the loop takes out of a backlog."""
    with StubSqs() as stub:
        stub.watch()
        what = Load(CAPACITY_MESSAGES, latency_seconds=LATENCY_SECONDS)
        return load(stub, boto3_loop(stub, threads), what).messages_per_second


def _run(case: Case, directory: Path, seconds: float, *, threads: int, against: Path | None) -> Stream:
    """Let the program come to rest in a long poll, then let the stream begin. No figure unless its counts are exact."""
    lasting = min(max(seconds, FEWEST_MESSAGES / case.per_second), MOST_MESSAGES / case.per_second)
    what = Load(
        round(case.per_second * (WARM_UP_SECONDS + lasting)),
        latency_seconds=LATENCY_SECONDS,
        per_second=case.per_second,
        poisson=case.poisson,
        measured_after_seconds=WARM_UP_SECONDS,
    )
    with StubSqs() as stub:
        stub.watch()
        with _start(case, stub, directory, threads=threads, against=against) as subject:
            subject.listening()
            stub.next_receive()
            time.sleep(SETTLE_SECONDS)
            stub.load(what)
            time.sleep(WARM_UP_SECONDS)
            began, cpu_before = time.monotonic(), subject.cpu_seconds()
            time.sleep(lasting)
            core = (subject.cpu_seconds() - cpu_before) / (time.monotonic() - began)
            report = stub.finished()
            subject.stop()
        subject.check(report.totals)
    return Stream(report.requests / report.arrived, report.mean_wait_seconds, core)


def _start(case: Case, stub: StubSqs, directory: Path, *, threads: int, against: Path | None) -> Subject:
    if case.program == "loop":
        return boto3_loop(stub, threads, "--wait", str(LONG_POLL_SECONDS))
    ledger = directory / f"{case.program}-{case.per_second}-{case.poisson}.db"
    return exporter(stub, ledger, checkout=against if case.program == "before" else None)


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="messages a second, with commas")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each stream is measured")
    parser.add_argument("--against", type=Path, help="the checkout of another exporter; then the page is left alone")
    parser.add_argument("--without-loop", action="store_true", help="measure the exporter alone")
    parser.add_argument("--directory", default=".", help="where the ledgers are meanwhile: on the disk to measure")
    parser.add_argument("--print-only", action="store_true", help="leave docs/performance.md as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stream-", dir=arguments.directory) as directory:
        rates = [int(rate) for rate in arguments.rates.split(",")]
        programs: list[Program] = [] if arguments.without_loop else ["loop"]
        programs += ["before", "exporter"] if arguments.against else ["exporter"]
        text = bill.table(measure(Path(directory), rates, arguments.seconds, programs, arguments.against))
    print(text)
    if not (arguments.print_only or arguments.without_loop or arguments.against):
        page.write("the bill", text)


if __name__ == "__main__":
    main()
