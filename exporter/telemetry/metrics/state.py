"""The state of the process at the moment of a scrape: readiness, the commit under way, clock, volume, build."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from exporter import __version__
from exporter.telemetry import logs
from exporter.telemetry.metrics import names
from exporter.telemetry.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric


@dataclass(frozen=True, slots=True)
class State:
    """Where to look at a scrape; None stands for what is not known, or does not exist."""

    ready: Callable[[], Mapping[str, bool]]
    """By queue name."""
    commit_started_at: Callable[[], float | None] = lambda: None
    """When the commit under way began, in monotonic seconds."""
    volume_available_bytes: Callable[[], int | None] = lambda: None
    clock_skew_seconds: Callable[[], float | None] = lambda: None
    speaking: Callable[[], bool] = lambda: True
    otlp_push_failures: Callable[[], Mapping[str, int]] = dict
    """By signal: those that are on."""
    log_lines_dropped: Callable[[], int] = logs.dropped
    revision: str = "unknown"


class StateCollector(Collector):
    """Reads all of a `State` at each scrape."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._began_seconds = time.time()

    def describe(self) -> Iterable[Metric]:
        """Name the families, so that registration collects nothing and `?name[]=` finds them."""
        yield from (gauge(name) for name in (names.READY, names.COMMIT_STARTED, names.VOLUME_AVAILABLE))
        yield from (gauge(name) for name in (names.CLOCK_SKEW, names.SPEAKER, names.BUILD_INFO))
        yield from (counter(name) for name in (names.OTLP_PUSH_FAILURES, names.LOG_LINES_DROPPED))

    def collect(self) -> Iterable[Metric]:
        """Give every family as of now."""
        state = self._state
        ready = gauge(names.READY)
        for queue, is_ready in state.ready().items():
            ready.add_metric((queue,), int(is_ready))
        yield ready
        started_at = state.commit_started_at()
        yield _single(names.COMMIT_STARTED, 0 if started_at is None else time.time() - (time.monotonic() - started_at))
        yield _single(names.VOLUME_AVAILABLE, state.volume_available_bytes())
        yield _single(names.CLOCK_SKEW, state.clock_skew_seconds())
        yield _single(names.SPEAKER, int(state.speaking()))
        failures = counter(names.OTLP_PUSH_FAILURES)
        for signal, count in state.otlp_push_failures().items():
            failures.add_metric((signal,), count, self._began_seconds)
        yield failures
        dropped = counter(names.LOG_LINES_DROPPED)
        dropped.add_metric((), state.log_lines_dropped(), self._began_seconds)
        yield dropped
        build_info = gauge(names.BUILD_INFO)
        build_info.add_metric((__version__, state.revision, platform.python_version()), 1)
        yield build_info


def _single(name: names.Name, value: float | None) -> Metric:
    """Make a gauge of one series without labels, empty where the value is not known."""
    family = gauge(name)
    if value is not None:
        family.add_metric((), value)
    return family
