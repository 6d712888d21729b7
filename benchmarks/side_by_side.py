"""Whether it is as fast as before, and what many queues cost: a full backlog, shared by more and more queues; nothing.

    python benchmarks/side_by_side.py --against ../before     # the exporter of another checkout, alternating with it

Both run in the same Python environment, one after the other, round by round: the ratios are of each round, their
medians are shown. An older exporter that takes one queue alone needs `--against-queues 1`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import page
from report import load_average, machine
from scenarios import SETTLE_SECONDS, Run, ledgers, load
from stub_events import Load
from stub_sqs import StubSqs
from subject import exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from subject import Subject

MESSAGES = 200_000
QUEUES = (1, 10, 100)
IDLE_SECONDS = 20
RECEIVES_SECONDS = 30.0


@dataclass(frozen=True)
class Case:
    """A backlog, and who shares it."""

    queues: int
    max_receives: int

    def __str__(self) -> str:
        return f"{self.queues} queue{'s' if self.queues > 1 else ''}, {self.max_receives} receives"


@dataclass(frozen=True)
class Idle:
    """What it takes to wait."""

    requests_a_second: float
    core: float
    """Part of a core."""


def backlog(stub: StubSqs, start: Callable[..., Subject], ledger: Path, case: Case, messages: int) -> Run:
    """Measure one exporter with a full backlog."""
    stub.load(Load(0, queues=case.queues))
    stub.watch()
    subject = start(stub, ledger, "--sqs.max-receives", str(case.max_receives), queues=case.queues)
    return load(stub, subject, Load(messages, queues=case.queues))


def idle(stub: StubSqs, start: Callable[..., Subject], ledger: Path, queues: int, seconds: int) -> Idle:
    """Measure one exporter with so many empty queues, after each of them has an open long poll."""
    stub.load(Load(0, queues=queues))
    with start(stub, ledger, queues=queues) as subject:
        subject.listening()
        until = time.monotonic() + RECEIVES_SECONDS
        while stub.receives() < queues:
            if time.monotonic() > until:
                raise TimeoutError(f"{stub.receives()} receives for {queues} queues in {RECEIVES_SECONDS:.0f} s")
            time.sleep(0.1)
        time.sleep(SETTLE_SECONDS)
        requests_before, cpu_before = stub.requests(), subject.cpu_seconds()
        time.sleep(seconds)
        requests, cpu_seconds = stub.requests() - requests_before, subject.cpu_seconds() - cpu_before
        subject.stop()
    return Idle(requests / seconds, cpu_seconds / seconds)


def table(arguments: argparse.Namespace, directory: Path, stub: StubSqs) -> str:
    """Measure it all; return it as Markdown."""
    names = ledgers(directory)
    lines = [
        "",
        *_backlogs(arguments, stub, names),
        "",
        "| empty queues | requests a second | CPU of a core |" + " before |" * bool(arguments.against),
        "|---|---|---|" + "---|" * bool(arguments.against),
    ]
    for queues in arguments.queues:
        _say(f"{queues} idle")
        ours = idle(stub, exporter, next(names), queues, arguments.idle_seconds)
        line = f"| {queues} queue{'s' if queues > 1 else ''} | {ours.requests_a_second:.2f} | {ours.core * 100:.2f} % |"
        if arguments.against:
            before = _before(arguments, queues)
            found = idle(stub, before, next(names), queues, arguments.idle_seconds) if before else None
            line += f" {found.requests_a_second:.2f}, {found.core * 100:.2f} % |" if found else " |"
        lines.append(line)
    head = (
        f"{machine(directory)}, {load_average()}. {arguments.messages:,} messages in all; counts and sums were exact "
        "in every run."
    )
    return "\n".join([head, *lines])


def _backlogs(arguments: argparse.Namespace, stub: StubSqs, names: Iterator[Path]) -> Iterator[str]:
    head = "| full backlog | messages a second | CPU a message |"
    if arguments.against:
        head += " before: messages a second | CPU a message | times the messages | times the CPU |"
    yield head
    yield "|---" * (head.count("|") - 1) + "|"
    for case in (Case(1, 16), Case(1, 32), *(Case(queues, 32) for queues in arguments.queues if queues > 1)):
        ours, before = [], []
        start_before = _before(arguments, case.queues)
        for number in range(arguments.rounds):
            _say(f"{case}, round {number + 1} of {arguments.rounds}")
            if start_before:
                before.append(backlog(stub, start_before, next(names), case, arguments.messages))
            ours.append(backlog(stub, exporter, next(names), case, arguments.messages))
        cells = [str(case), *_figures(ours)]
        if arguments.against:
            cells += [*_figures(before), *_ratios(ours, before)] if before else [""] * 4
        yield f"| {' | '.join(cells)} |"


def _before(arguments: argparse.Namespace, queues: int) -> Callable[..., Subject] | None:
    if not arguments.against or queues > arguments.against_queues:
        return None
    return partial(exporter, checkout=arguments.against)


def _figures(runs: Sequence[Run]) -> tuple[str, str]:
    rate = statistics.median(run.messages_per_second for run in runs)
    return f"{round(rate, -2):,.0f}", f"{statistics.median(run.cpu_us for run in runs):.1f} µs"


def _ratios(ours: Sequence[Run], before: Sequence[Run]) -> tuple[str, str]:
    pairs = list(zip(ours, before, strict=True))
    faster = statistics.median(one.messages_per_second / other.messages_per_second for one, other in pairs)
    return f"{faster:.2f}", f"{statistics.median(one.cpu_us / other.cpu_us for one, other in pairs):.2f}"


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="the checkout of another exporter; then the page is left alone")
    parser.add_argument("--against-queues", type=int, default=max(QUEUES), help="the most queues that it can take")
    parser.add_argument("--queues", type=int, nargs="+", default=QUEUES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--idle-seconds", type=int, default=IDLE_SECONDS)
    parser.add_argument("--directory", default=".", help="where the ledgers are meanwhile: on the disk to measure")
    parser.add_argument("--print-only", action="store_true", help="leave docs/performance.md as it is")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="side-by-side-", dir=arguments.directory) as directory,
        StubSqs() as stub,
    ):
        text = table(arguments, Path(directory), stub)
    print(text)
    if not (arguments.print_only or arguments.against):
        page.write("many queues", text)


if __name__ == "__main__":
    main()
