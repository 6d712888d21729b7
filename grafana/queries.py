"""The selectors and expressions that several panels share.

Every selector begins with the cluster, so that mixin/mixin.libsonnet finds where a site's own matchers belong.
"""

from __future__ import annotations

CLUSTER = 'cluster=~"$cluster"'
INSTANCE = f'{CLUSTER},job=~"$job",instance=~"$instance"'
"""The exporter's own health: what carries the address of a process."""
HEALTH = f'{INSTANCE},queue=~"$queue"'
"""The same, of a queue."""
LEDGER = f'{CLUSTER},ledger=~"$ledger"'
"""What the ledger keeps, wherever the exporter moves; its `instance` is the ledger's name, and its job may change."""
QUEUE = f'{LEDGER},queue=~"$queue"'
TYPE = f'{QUEUE},type=~"$type"'
ACCOUNTED = (
    "sqs_events_total|sqs_exporter_messages_(duplicate|rejected|released)_total|sqs_exporter_events_forgotten_total"
)


def rate(metric: str, selector: str, by: str) -> str:
    """Return the rate of a counter, following the zoom of the dashboard."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def gauge(metric: str, selector: str) -> str:
    """Return a gauge of the ledger's: a change of the replica that shows it may hide it for a scrape."""
    return f"last_over_time({metric}{{{selector}}}[$__rate_interval])"


def of_exporters(expr: str) -> str:
    """Return what every process in Prometheus has (`up`, `process_*`) of those that are, or were, an exporter."""
    known = f"last_over_time(sqs_exporter_build_info{{{INSTANCE}}}[1d])"
    return f"{expr} and ignoring (version, revision, python) {known}"


def growth(metric: str, selector: str, by: str, window: str = "$__range", ago: str = "") -> str:
    """Return how much a counter of the ledger's grew within a window that ended some time `ago`: whole numbers.

    increase() extrapolates (75 events read 76.07). This is the value at the end of the window less that at its start,
    each the last one scraped within a day, so that an outage at either end does no harm. A series born inside the
    window began at 0. A restart of the exporter changes nothing, because its counters go on.
    """
    end = f"last_over_time({metric}{{{selector}}}[1d]{f' offset {ago}' if ago else ''})"
    start = f"last_over_time({metric}{{{selector}}}[1d] offset {ago}{window})"
    grown = f"({end} - ({start} or 0 * {end}))"
    return f"sum by ({by}) {grown}" if by else f"sum{grown}"


def net_growth(by: str, window: str = "$__range", ago: str = "") -> str:
    """Return how much the events' values sum to in a window, negative ones subtracted."""
    return " - ".join(
        growth(metric, TYPE, by, window, ago) for metric in ("sqs_event_value_total", "sqs_event_negative_value_total")
    )


def quantile(q: float, metric: str, selector: str, by: str = "") -> str:
    """Return a quantile of a histogram of durations."""
    buckets = rate(f"{metric}_bucket", selector, f"le, {by}" if by else "le")
    return f"histogram_quantile({q}, {buckets})"


def ages(metric: str) -> dict[str, str]:
    """Return mean, median and p95 of a histogram of ages, by legend.

    A bucket is up to 1.5 times as wide as the one before. histogram_quantile puts p95 near the upper end of its bucket,
    up to 1.48 times too high where all ages are alike; divided by 1.2 it is the bucket's middle, wrong by a fifth.
    """
    mean = f"{rate(f'{metric}_sum', HEALTH, 'queue')} / {rate(f'{metric}_count', HEALTH, 'queue')}"
    return {
        "{{queue}} mean": mean,
        "{{queue}} median": quantile(0.5, metric, HEALTH, "queue"),
        "{{queue}} p95": f"{quantile(0.95, metric, HEALTH, 'queue')} / 1.2",
    }
