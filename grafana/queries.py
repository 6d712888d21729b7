"""The selectors and expressions that several panels share."""

from __future__ import annotations

INSTANCE = 'job=~"$job",instance=~"$instance"'
QUEUE = f'{INSTANCE},queue=~"$queue"'
TYPE = f'{QUEUE},type=~"$type"'


def rate(metric: str, selector: str, by: str) -> str:
    """Return the rate of a counter, following the zoom of the dashboard."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def in_range(metric: str) -> str:
    """Return how much a counter of events grew in the chosen range, by type: whole, where increase() extrapolates.

    That is its value at the end of the range less that at its start, each the last one scraped within a day, so that
    an outage at either end does no harm. A series born inside the range began at 0. A restart of the exporter changes
    nothing, because its counters go on.
    """
    end = f"last_over_time({metric}{{{TYPE}}}[1d])"
    start = f"last_over_time({metric}{{{TYPE}}}[1d] offset $__range)"
    return f"sum by (type) ({end} - ({start} or 0 * {end}))"


EVENTS_IN_RANGE = in_range("sqs_events_total")
VALUE_IN_RANGE = f"{in_range('sqs_event_value_total')} - {in_range('sqs_event_negative_value_total')}"


def quantiles(metric: str, selector: str) -> dict[str, str]:
    """Return the quantiles worth a line, by legend."""
    buckets = rate(f"{metric}_bucket", selector, "le")
    return {f"p{q}": f"histogram_quantile(0.{q}, {buckets})" for q in ("50", "95", "99")}
