"""A simulated exporter: the series that /metrics shows as functions of time, for promtool, a Prometheus or a scrape.

The rules and the dashboard are tested against it where a real exporter can't be had: over a week, at four scrape
intervals, in every trouble.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Value = Callable[[float], float | None]

# fmt: off
AGE_BUCKETS = (
    0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 15.0, 20.0, 30.0, 45.0,
    60.0, 90.0, 120.0, 180.0, 240.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0, 5400.0, 7200.0, 10800.0, 14400.0, 21600.0, 86400.0,
)
# fmt: on
DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0)
MINUTE, HOUR, DAY, WEEK = 60.0, 3600.0, 86400.0, 604800.0


class Series(NamedTuple):
    """One series: its value at a time (seconds since the start), None where a scrape doesn't show it."""

    name: str
    labels: Mapping[str, str]
    value: Value

    def __str__(self) -> str:
        return f"{self.name}{{{','.join(f'{name}={json.dumps(value)}' for name, value in self.labels.items())}}}"


def always(value: float) -> Value:
    """Return a gauge, or a counter, that stands still."""
    return lambda _: value


def growing(per_second: float, *, since: float = 0.0, until: float = float("inf"), start: float = 0.0) -> Value:
    """Return a counter that grows between two times, and stands before and after."""
    return lambda at: start + per_second * max(0.0, min(at, until) - since)


NOTHING, REPEATING = always(0.0), growing(0.05)


def switched(*steps: tuple[float, float | None]) -> Value:
    """Return what has the value of the last of the steps (from, value) that has begun."""
    return lambda at: next((value for since, value in reversed(steps) if at >= since), None)


def occurring(moments: Sequence[float]) -> Value:
    """Return a counter of what happens at these moments, which are in order."""
    return lambda at: float(bisect_right(moments, at))


def together(*values: Value) -> Value:
    """Return the sum."""

    def total(at: float) -> float | None:
        found = [value(at) for value in values]
        return None if None in found else sum(value for value in found if value is not None)

    return total


def times(factor: float, value: Value) -> Value:
    """Return the product."""
    return lambda at: None if (found := value(at)) is None else factor * found


def histogram(
    name: str, labels: Mapping[str, str], observed: float, count: Value, buckets: Sequence[float]
) -> Iterator[Series]:
    """Yield a histogram whose observations are all the same."""
    for bound in (*buckets, float("inf")):
        bucket = {**labels, "le": "+Inf" if bound == float("inf") else str(bound)}
        yield Series(f"{name}_bucket", bucket, count if observed <= bound else always(0.0))
    yield Series(f"{name}_count", labels, count)
    yield Series(f"{name}_sum", labels, times(observed, count))


def process(labels: Mapping[str, str], queues: Iterable[str] = ("events",), *, speaker: bool = True) -> list[Series]:
    """Return the health of an exporter that does well: what carries its address as `instance` and no ledger."""
    series = [
        Series("up", labels, always(1.0)),
        Series(
            "sqs_exporter_build_info", {**labels, "version": "2", "revision": "abc", "python": "3.13.1"}, always(1.0)
        ),
        Series("process_start_time_seconds", labels, always(1000.0)),
        Series("process_cpu_seconds_total", labels, growing(0.01)),
        Series("process_resident_memory_bytes", labels, always(6e7)),
        Series("sqs_exporter_speaker", labels, always(float(speaker))),
        Series("sqs_exporter_clock_skew_seconds", labels, always(0.2)),
        Series("sqs_exporter_ledger_volume_available_bytes", labels, always(5e10)),
        Series("sqs_exporter_ledger_commit_started_timestamp_seconds", labels, always(0.0)),
        Series("sqs_exporter_log_lines_dropped_total", labels, always(0.0)),
        *(
            Series("sqs_exporter_ledger_errors_total", {**labels, "reason": r}, always(0.0))
            for r in ("full", "io_error")
        ),
        *(
            Series("sqs_exporter_otlp_push_failures_total", {**labels, "signal": signal}, always(0.0))
            for signal in ("metrics", "traces", "logs")
        ),
        *histogram("sqs_exporter_commit_duration_seconds", labels, 0.004, growing(0.5), DURATION_BUCKETS),
    ]
    for queue in queues:
        own = {**labels, "queue": queue}
        series += [
            Series("sqs_exporter_ready", own, always(1.0)),
            Series("sqs_exporter_receives_in_flight", own, always(1.0)),
            Series("sqs_exporter_last_successful_receive_timestamp_seconds", own, lambda at: at),
            Series("sqs_exporter_messages_deleted_total", own, growing(1.0)),
            *(
                Series(f"sqs_exporter_{name}_total", {**own, "reason": reason}, always(0.0))
                for name in ("message_delete_failures", "receive_errors")
                for reason in ("throttled", "access_denied")
            ),
            *(
                Series("sqs_exporter_requests_total", {**own, "operation": operation}, growing(0.2))
                for operation in ("receive", "delete", "change_visibility", "get_queue_attributes")
            ),
            *histogram("sqs_message_age_seconds", own, 0.2, growing(1.0), AGE_BUCKETS),
            *histogram("sqs_event_age_seconds", own, 0.8, growing(1.0), AGE_BUCKETS),
        ]
        for operation in ("receive", "delete"):
            duration = {**own, "operation": operation}
            series += histogram("sqs_exporter_request_duration_seconds", duration, 0.02, growing(0.1), DURATION_BUCKETS)
    return series


def ledger(  # noqa: PLR0913 - what the scenarios differ in
    labels: Mapping[str, str],
    name: str = "orders",
    queue: str = "events",
    *,
    types: Mapping[str, Value] | None = None,
    duplicate: Value = REPEATING,
    rejected: Value = NOTHING,
    lost: Value = NOTHING,
    event_labels: Mapping[str, str] | None = None,
) -> list[Series]:
    """Return what a ledger keeps of a queue, under the `instance` that the shipped rule gives it.

    `types` says how many events of each type were counted, `lost` what was received beyond what is accounted for.
    """
    types = types if types is not None else {"purchase": growing(0.25), "pageview": growing(0.7), "refund": always(0.0)}
    kept = {**labels, "instance": name, "ledger": name}
    own = {**kept, "queue": queue}
    series = [
        Series("sqs_exporter_messages_received_total", own, together(*types.values(), duplicate, rejected, lost)),
        Series("sqs_exporter_messages_duplicate_total", own, duplicate),
        Series("sqs_exporter_messages_rejected_total", {**own, "reason": "invalid_json"}, rejected),
        Series("sqs_exporter_messages_rejected_total", {**own, "reason": "missing_field"}, always(0.0)),
        *(
            Series("sqs_exporter_messages_released_total", {**own, "reason": reason}, always(0.0))
            for reason in ("expired", "commit_failed")
        ),
        Series("sqs_exporter_events_forgotten_total", own, always(0.0)),
        Series("sqs_exporter_events_without_id_total", own, always(0.0)),
        Series("sqs_exporter_timestamps_unreadable_total", own, always(0.0)),
        *(
            Series("sqs_exporter_events_overflowed_total", {**own, "limit": limit}, always(0.0))
            for limit in ("types", "series")
        ),
        Series("sqs_exporter_ledger_messages", own, always(3600.0)),
        Series("sqs_exporter_ledger_unsettled_messages", own, always(3.0)),
        Series("sqs_exporter_ledger_oldest_message_timestamp_seconds", own, lambda at: at - 3600),
        Series("sqs_exporter_ledger_forgotten_early_total", own, always(0.0)),
        Series("sqs_exporter_ledger_max_messages", kept, always(5e6)),
        Series("sqs_queue_info", {**own, "account": "123456789012", "region": "eu-central-1"}, always(1.0)),
        Series("sqs_queue_visibility_timeout_seconds", own, always(30.0)),
        Series("sqs_queue_retention_seconds", own, always(345600.0)),
        *(
            Series("sqs_queue_messages", {**own, "state": state}, always(0.0))
            for state in ("visible", "in_flight", "delayed")
        ),
        Series("sqs_dead_letter_queue_messages", {**own, "dead_letter_queue": f"{queue}-dead-letters"}, always(0.0)),
    ]
    for kind, count in types.items():
        event = {**own, "type": kind, **(event_labels or {})}
        value = 40.0 if kind == "purchase" else 1.0
        series += [
            Series("sqs_events_total", event, count),
            Series("sqs_event_value_total", event, times(value, count)),
            Series("sqs_event_negative_value_total", event, always(0.0)),
            Series("sqs_event_last_occurred_timestamp_seconds", event, lambda at: at),
        ]
    return series


def changed(series: Iterable[Series], name: str, value: Value, **labels: str) -> list[Series]:
    """Return the series with another value in those of the name (None: in all) and labels; there must be one."""
    found = False
    result = []
    for one in series:
        if one.name == name and labels.items() <= one.labels.items():
            found = True
            result.append(one._replace(value=value))
        else:
            result.append(one)
    assert found, f"no series {name} with {labels}"
    return result


def gone(series: Iterable[Series], since: float, until: float = float("inf")) -> list[Series]:
    """Return the series as they are when nothing shows them for a while."""

    def hidden(value: Value) -> Value:
        return lambda at: None if since <= at < until else value(at)

    return [one._replace(value=hidden(one.value)) for one in series]


def promtool_values(series: Series, seconds: float, interval: float) -> str:
    """Return the values as promtool's `input_series` wants them."""
    values = [series.value(interval * step) for step in range(int(seconds / interval) + 1)]
    return " ".join("_" if value is None else repr(float(value)) for value in values)


def openmetrics(series: Iterable[Series], start: float, seconds: float, interval: float) -> Iterator[str]:
    """Yield the lines from which `promtool tsdb create-blocks-from openmetrics` makes what was scraped."""
    for one in series:
        shown = str(one)
        for step in range(int(seconds / interval) + 1):
            value = one.value(interval * step)
            if value is not None:
                if one.name.endswith("_timestamp_seconds") and value > 0:
                    value += start
                yield f"{shown} {value!r} {start + interval * step:.3f}\n"
    yield "# EOF\n"


def exposition(series: Iterable[Series], at: float) -> str:
    """Return what a scrape at a time gets: the labels of the target are left to the scraper."""
    lines = []
    for one in series:
        value = one.value(at)
        if one.name != "up" and value is not None:
            labels = {name: text for name, text in one.labels.items() if name not in {"job", "instance"}}
            lines.append(f"{one._replace(labels=labels)} {value!r}")
    return "\n".join(lines) + "\n"
