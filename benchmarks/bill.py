"""What a stream costs at AWS, as the tables of docs/performance.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from report import load_average

if TYPE_CHECKING:
    from collections.abc import Mapping

DOLLARS_A_MILLION = 0.40
"""https://aws.amazon.com/sqs/pricing/: standard queues, after the first million requests a month."""
MONTH_SECONDS = 365.25 / 12 * 24 * 3600

TARGETS = {1: (1.3, 0.7), 10: (0.3, 0.7), 100: (0.24, 0.2), 1_000: (0.22, 0.05)}
"""Requests a message, and the mean wait in the queue in seconds, by messages a second."""
TIMES_LESS_CPU = 5
CORE_AT_ONE_A_SECOND = 0.007

Program = Literal["loop", "before", "exporter"]
NAMES: dict[Program, str] = {"loop": "boto3 loop", "before": "exporter before", "exporter": "exporter"}


class Case(NamedTuple):
    """One program under one stream."""

    per_second: int
    poisson: bool
    program: Program


@dataclass(frozen=True)
class Stream:
    """What it came to."""

    requests_a_message: float
    mean_wait_seconds: float
    core: float
    """Part of a core that it took."""


@dataclass(frozen=True)
class Bill:
    """All that was measured."""

    machine: str
    capacity: Mapping[int, float]
    """Messages a second that the loop takes out of a backlog, by its threads."""
    streams: Mapping[Case, Stream]


def table(bill: Bill) -> str:
    """Return it as Markdown: what AWS bills, what it costs in time and CPU, and whether the targets are met."""
    kinds = list(dict.fromkeys((case.per_second, case.poisson) for case in bill.streams))
    measured = {case.program for case in bill.streams}
    programs = [program for program in NAMES if program in measured]
    heads = [f"{NAMES[program]}: {what}" for program in programs for what in ("requests a message", "a month")]
    costs = [f"{NAMES[program]}: {what}" for program in programs for what in ("CPU of a core", "mean wait")]
    lines = [
        f"{bill.machine}, {load_average()}. Counts and sums were exact in every run.",
        "",
        f"| messages a second | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for per_second, poisson in kinds:
        cells = [
            cell
            for program in programs
            for cell in _billed(bill, per_second, bill.streams.get(Case(per_second, poisson, program)))
        ]
        lines.append(f"| {_kind(per_second, poisson=poisson)} | {' | '.join(cells)} |")
    lines += ["", f"| messages a second | {' | '.join(costs)} | targets |", f"|---|{'---|' * len(costs)}---|"]
    for per_second, poisson in kinds:
        streams = {program: bill.streams.get(Case(per_second, poisson, program)) for program in programs}
        cells = [cell for stream in streams.values() for cell in _taken(stream)]
        verdict = _verdict(per_second, streams.get("loop"), bill.streams[Case(per_second, poisson, "exporter")])
        lines.append(f"| {_kind(per_second, poisson=poisson)} | {' | '.join(cells)} | {verdict} |")
    if "loop" in programs:
        lines += [
            "",
            (
                f"The loop has one thread where that is enough, else four: out of a backlog they take "
                f"{bill.capacity[1]:,.0f} and {bill.capacity[4]:,.0f} messages a second."
            ),
        ]
    return "\n".join(lines)


def _kind(per_second: int, *, poisson: bool) -> str:
    return f"{per_second:,}, {'by Poisson' if poisson else 'evenly'}"


def _billed(bill: Bill, per_second: int, stream: Stream | None) -> tuple[str, str]:
    if stream is None:
        return f"can't: {bill.capacity[4]:,.0f}", ""
    requests = stream.requests_a_message * per_second * MONTH_SECONDS
    dollars = requests / 1e6 * DOLLARS_A_MILLION
    return f"{stream.requests_a_message:.2f}", f"{requests / 1e6:,.1f} M, ${dollars:,.{0 if dollars >= 10 else 2}f}"  # noqa: PLR2004


def _taken(stream: Stream | None) -> tuple[str, str]:
    if stream is None:
        return "", ""
    return f"{stream.core * 100:.2f} %", f"{stream.mean_wait_seconds:.3f} s"


def _verdict(per_second: int, loop: Stream | None, ours: Stream) -> str:
    """Say which targets of this rate were met."""
    if per_second not in TARGETS:
        return ""
    requests, wait_seconds = TARGETS[per_second]
    verdicts = [
        _met(f"{requests} requests", ours.requests_a_message <= requests),
        _met(f"{wait_seconds} s", ours.mean_wait_seconds <= wait_seconds),
    ]
    if per_second == 1:
        verdicts.append(_met(f"{CORE_AT_ONE_A_SECOND:.1%} of a core", ours.core < CORE_AT_ONE_A_SECOND))
    elif loop is not None:
        times = loop.core / ours.core
        verdicts.append(_met(f"1/{TIMES_LESS_CPU} of the CPU (1/{times:.1f})", times >= TIMES_LESS_CPU))
    return ", ".join(verdicts)


def _met(target: str, met: bool) -> str:  # noqa: FBT001 - what it says
    return target if met else f"{target} **missed**"
