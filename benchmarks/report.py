"""What was measured, as the tables of docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scenarios import Round, Run, Start

TIMES_LESS_CPU = 10
TIMES_FASTER = 10
DISTANT_PER_SECOND = 12_000
SCRAPE_MS = 50
PEAK_MEGABYTES = 180
START_SECONDS = 2
TIMES_QUICKER = 5

_FSYNCS = 200
_THOUSAND = 1_000
_MILLION = 1_000_000


@dataclass(frozen=True)
class Figures:
    """All that `make bench` measures. In pairs the loop comes first."""

    machine: str
    rounds: Sequence[Round]
    distant: tuple[Run, Run]
    many_types: tuple[Run, Run]
    start: Start
    whole_seconds: tuple[float, float]
    steady: Sequence[tuple[int, Run]]
    """By messages a second."""
    idle_seconds: int
    idle: tuple[int, float]
    """Receives in that time, and the part of a core."""
    parts: dict[str, float]
    """CPU microseconds a message of some parts of the exporter."""
    ids: str
    """What `ids.py` printed."""
    otlp: str
    """The table of `otlp_throughput`."""


def page(figures: Figures) -> str:
    """Return the figures as Markdown."""
    ours = _median([found.ours for found in figures.rounds])
    idle_receives, idle_core = figures.idle
    widened = figures.distant[1].widened_after_seconds
    tls = _median([found.tls for found in figures.rounds])
    tls_us = sorted(_cpu(found.tls) - _cpu(found.ours) for found in figures.rounds)
    default = _median([found.default for found in figures.rounds])
    less_cpu, faster = _ratios(figures.rounds, lambda found: found.default)
    by_round = [_ratios([found], lambda found: found.ours) for found in figures.rounds]
    rest_us = _cpu(ours) - sum(figures.parts.values())
    lines = [
        f"{figures.machine}, {load_average()}. Counts and sums were exact in every run.",
        "",
        "| | boto3 loop | exporter | comes to | target |",
        "|---|---|---|---|---|",
        *_targets(figures),
        "",
        "| steady stream, 10 ms added to every answer | CPU a message | part of a core | ids in an hour | memory |",
        "|---|---|---|---|---|",
        *(_steady(figures, per_second, run) for per_second, run in figures.steady),
        f"| none: {idle_receives} receives in {figures.idle_seconds} s | | {idle_core * 100:.1f} % | | |",
        "",
        "| part, at 32 batches of ten an iteration | CPU a message |",
        "|---|---|",
        *(f"| {name} | {microseconds:.1f} µs |" for name, microseconds in figures.parts.items()),
        f"| all else: libcurl, the kernel's sockets, the loop, metrics | {rest_us:.1f} µs |",
        "",
        "With OpenTelemetry on, beside the same with it off, by what the collector does (slow: 5 s a push):",
        "",
        figures.otlp,
        "",
        "What can hold a million message ids (`buckets` is the ledger's):",
        "",
        "```text",
        figures.ids.rstrip(),
        "```",
        "",
        (
            f"- The stub took {ours.stub_cpu_us:.1f} µs of CPU a message where the exporter took {_cpu(ours):.1f}: "
            f"a core of stub can serve {_cpu(ours) / ours.stub_cpu_us:.1f} cores of exporter."
        ),
        (
            f"- By round: {', '.join(f'1/{less_cpu:.1f}' for less_cpu, _ in by_round)} of the CPU and "
            f"{', '.join(f'{faster:.1f}' for _, faster in by_round)} times the messages."
        ),
        (
            f"- With the default of 16 receives: {_count(_rate(default))} messages a second, {faster:.1f} times as "
            f"many as the loop, with {_cpu(default):.1f} µs of CPU a message, 1/{less_cpu:.1f}."
        ),
        f"- With 20 ms added, 16 receives were in flight after {widened[16]:.2f} s, 32 after {widened[32]:.2f} s.",
        (
            f"- Over TLS: {_count(_rate(tls))} messages a second. TLS adds {statistics.median(tls_us):.1f} µs of CPU a "
            f"message; by round from {tls_us[0]:.1f} to {tls_us[-1]:.1f}."
        ),
    ]
    return "\n".join(lines)


def load_average() -> str:
    """Say how busy the machine is: figures of a busy one say more about the machine."""
    return f"load average {' '.join(f'{average:.1f}' for average in os.getloadavg())} at the end"


def machine(directory: Path) -> str:
    """Say what this is measured on, the disk's fsync included: a commit is one."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    with (directory / "fsync").open("wb", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(_FSYNCS):
            file.seek(0)
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        milliseconds = (time.perf_counter() - started) / _FSYNCS * _THOUSAND
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{milliseconds:.2f} ms for an fsync of 4 KiB"
    )


def _steady(figures: Figures, per_second: int, run: Run) -> str:
    base_megabytes = figures.steady[0][1].peak_megabytes
    per_id = (figures.many_types[1].peak_megabytes - base_megabytes) / _MILLION
    ids = per_second * 3600
    return (
        f"| {per_second:,} a second | {_cpu(run):.0f} µs | {_cpu(run) * per_second / 1e4:.1f} % | {ids:,} "
        f"| {base_megabytes + ids * per_id:,.0f} MB |"
    )


def _targets(figures: Figures) -> list[str]:
    rounds = figures.rounds
    one, four, ours, _, _ = (_median(runs) for runs in zip(*rounds, strict=True))
    cheapest, fastest = min(one, four, key=_cpu), max(one, four, key=_rate)
    less_cpu, faster = _ratios(rounds, lambda found: found.ours)
    (distant_loop, distant), (many_loop, many) = figures.distant, figures.many_types
    whole_loop, whole = figures.whole_seconds
    full = figures.start.full_seconds
    return [
        _row(
            "CPU a message",
            f"{_cpu(cheapest):.0f} µs",
            f"{_cpu(ours):.1f} µs (32 receives)",
            f"1/{less_cpu:.1f}",
            f"1/{TIMES_LESS_CPU}",
            met=less_cpu >= TIMES_LESS_CPU,
        ),
        _row(
            "messages a second on loopback",
            f"{_count(_rate(fastest))} ({fastest.name})",
            f"{_count(_rate(ours))} (32 receives)",
            f"{faster:.1f} times",
            f"{TIMES_FASTER} times",
            met=faster >= TIMES_FASTER,
        ),
        _row(
            "messages a second, 20 ms added to every answer",
            f"{_count(_rate(distant_loop))} ({distant_loop.name})",
            f"{_count(_rate(distant))} (32 receives)",
            f"{_rate(distant) / _rate(distant_loop):.1f} times",
            f"{DISTANT_PER_SECOND:,}",
            met=_rate(distant) >= DISTANT_PER_SECOND,
        ),
        _row(
            "scrape under full load, 200 types: p50 / p99",
            f"{many_loop.scrape_ms(50):.0f} / {many_loop.scrape_ms(99):.0f} ms",
            f"{many.scrape_ms(50):.0f} / {many.scrape_ms(99):.0f} ms",
            f"{len(many.scrapes_seconds)} scrapes",
            f"p99 {SCRAPE_MS} ms",
            met=many.scrape_ms(99) < SCRAPE_MS,
        ),
        _row(
            "peak RSS after 1,000,000 messages",
            f"{many_loop.peak_megabytes:.0f} MB, none remembered",
            f"{many.peak_megabytes:.0f} MB, all remembered",
            "",
            f"{PEAK_MEGABYTES} MB",
            met=many.peak_megabytes < PEAK_MEGABYTES,
        ),
        _row(
            "start to first receive, 1,000,000 messages remembered",
            "",
            f"{full:.2f} s",
            f"{figures.start.empty_seconds:.2f} s with none",
            f"{START_SECONDS} s",
            met=full < START_SECONDS,
        ),
        _row(
            "100,000 events, whole process until the queue is empty",
            f"{whole_loop:.1f} s",
            f"{whole:.1f} s (32 receives)",
            f"{whole_loop / whole:.1f} times",
            f"{TIMES_QUICKER} times",
            met=whole_loop / whole >= TIMES_QUICKER,
        ),
    ]


def _row(*cells: str, met: bool) -> str:
    return f"| {' | '.join(cells)}{'' if met else ', **missed**'} |"


def _ratios(rounds: Sequence[Round], ours: Callable[[Round], Run]) -> tuple[float, float]:
    """Return how many times less CPU, and how many times the messages, against the better loop; medians of rounds."""
    less_cpu = statistics.median(min(_cpu(found.one), _cpu(found.four)) / _cpu(ours(found)) for found in rounds)
    return less_cpu, statistics.median(
        _rate(ours(found)) / max(_rate(found.one), _rate(found.four)) for found in rounds
    )


def _median(runs: Sequence[Run]) -> Run:
    """Pick the run whose CPU time is the median, so that its figures belong together."""
    return sorted(runs, key=_cpu)[len(runs) // 2]


def _cpu(run: Run) -> float:
    return run.cpu_us


def _rate(run: Run) -> float:
    return run.messages_per_second


def _count(number: float) -> str:
    return f"{round(number, -2 if number >= _THOUSAND else 0):,.0f}"
