"""The rows for those who read the numbers: what they are, and how fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import DASHBOARD, chart, colours, number, rows_by, see, shares
from queries import (
    QUEUE,
    TYPE,
    ages,
    gauge,
    growth,
    net_growth,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

EVENTS = "sqs_events_total"


def what_the_business_sees(board: Dashboard) -> None:
    """Rates, totals and shares by type."""
    net = f"{rate('sqs_event_value_total', TYPE, '$label')} - {rate('sqs_event_negative_value_total', TYPE, '$label')}"
    hourly_events = {
        "this week": f"sum(increase({EVENTS}{{{TYPE}}}[1h]))",
        "last week": f"sum(increase({EVENTS}{{{TYPE}}}[1h] offset 1w))",
    }
    for panel in (
        number(
            "Events in range",
            "locale",
            growth(EVENTS, TYPE, ""),
            "Events counted in the chosen range: exact, not extrapolated. What a new Prometheus finds at its first "
            "scrape counts as inside the range.",
            decimals=0,
            width=4,
        ),
        number(
            "Net value in range",
            "locale",
            net_growth(""),
            "Sum of the values of the events in the chosen range, negative ones subtracted: exact to a float's 15 "
            "digits. Compare it with the shop's own books; a difference that grows is a producer's.",
            decimals=2,
            width=4,
        ),
        number(
            "Value, last hour",
            "locale",
            {"this week": net_growth("", "1h"), "last week": net_growth("", "1h", "1w")},
            "Net value of the last 60 minutes, beside the same hour of last week. Exact. Only one number: Prometheus "
            "has no data of last week.",
            decimals=2,
            width=6,
        ),
        number(
            "Value, last day",
            "locale",
            {"this week": net_growth("", "1d"), "last week": net_growth("", "1d", "1w")},
            "Net value of the last 24 hours, beside the same day of last week. Exact. Only one number: Prometheus has "
            "no data of last week.",
            decimals=2,
            width=6,
        ),
        number(
            "Types seen",
            "locale",
            f"count(count by (type) ({EVENTS}{{{TYPE}}}))",
            see(
                "Event types that have a series, --events.types included. Near --events.max-types (200 by default) "
                "the next ones are counted together as `__other__`: look for ids inside type names.",
                "SqsExporterOverflow",
            ),
            thresholds=colours(150, 200),
            decimals=0,
            width=4,
        ),
        chart(
            "Events per second by $label",
            "cps",
            {"{{$label}}": rate(EVENTS, TYPE, "$label")},
            see(
                "Events counted, split by `type` or by the label that stands in the box on top. Bad is one that falls "
                "to 0 while others go on: its producer stopped or was renamed. All at 0: see the top row.",
                "SqsExporterTypeSilent",
            ),
            stacked=True,
        ),
        chart(
            "Net value per second by $label",
            "short",
            {"{{$label}}": net},
            "Sum of the events' values, negative ones subtracted. Below 0 more is given back than taken. Bad is a "
            "value that moves away from its events: a producer sends another unit or currency.",
            from_zero=False,
        ),
        chart(
            "Events per hour, this week and last",
            "locale",
            hourly_events,
            see(
                "The last seven days beside the seven before, an hour at each point (extrapolated by Prometheus, so "
                "about right), the first at the first full hour. Bad is a line that leaves the other one. No second "
                "line: no data of last week.",
                "SqsExporterQueueSilent",
            ),
            every="1h",
            last="7d",
        ),
        chart(
            "Net value per day",
            "locale",
            {
                "net value": f"sum(increase(sqs_event_value_total{{{TYPE}}}[1d])) - "
                f"sum(increase(sqs_event_negative_value_total{{{TYPE}}}[1d]))"
            },
            "The last four weeks, 24 hours at each bar (extrapolated by Prometheus, so about right), the first at the "
            "first midnight. Bad is a day that differs from the same day of the week before.",
            bars=True,
            from_zero=False,
            every="1d",
            last="28d",
        ),
        rows_by(
            "type",
            "Top ten types in range",
            {
                "Events": (growth(EVENTS, TYPE, "type"), "locale", 0),
                "Net value": (net_growth("type"), "locale", 2),
                "Last event": (
                    f"1000 * max by (type) (sqs_event_last_occurred_timestamp_seconds{{{TYPE}}})",
                    "dateTimeFromNow",
                    0,
                ),
            },
            see(
                "The types with the most events in the chosen range, with exact totals, and when each last occurred. "
                "Bad is a type whose last event is older than it usually is.",
                "SqsExporterTypeSilent",
            ),
            sort_by="Events",
            most=10,
            width=14,
            link=("Only this type", DASHBOARD + "&var-type=${__value.text}"),
        ),
        shares(
            "Share of events by $label",
            "locale",
            growth(EVENTS, TYPE, "$label"),
            "{{$label}}",
            "Of the events in the chosen range. Bad is a share that changes with a release. A large `__other__` "
            "means too many types or label sets: correct the producer or raise the cap.",
            width=10,
        ),
    ):
        board.with_panel(panel)


def how_fresh_the_numbers_are(board: Dashboard) -> None:
    """Ages and backlog."""
    for panel in (
        chart(
            "Event age when counted",
            "s",
            ages("sqs_event_age_seconds"),
            "From `occurred_at` to the commit. Larger than the message age: producers send late, or their clocks are "
            "off. Gaps: nothing was counted. The mean is exact; median and p95 come from buckets and may be a quarter "
            "off.",
            width=8,
            drill="queue",
        ),
        chart(
            "Message age when counted",
            "s",
            ages("sqs_message_age_seconds"),
            see(
                "From sending to SQS to the commit: the exporter's own lag. Bad is a line that climbs: it does not "
                "keep up, or has just come back from an outage. The mean is exact, the others may be a quarter off.",
                "SqsExporterLag",
            ),
            width=8,
            drill="queue",
        ),
        chart(
            "Backlog by state",
            "locale",
            {"{{ledger}} {{queue}} {{state}}": f"sum by (ledger, queue, state) ({gauge('sqs_queue_messages', QUEUE)})"},
            see(
                "SQS's approximate numbers. Bad: `visible` grows (not received), or `in_flight` stays high without "
                "receives (another consumer holds them). Nothing here: sqs:GetQueueAttributes is missing.",
                "SqsExporterLag",
                "SqsExporterStalled",
                "SqsExporterDepthUnknown",
            ),
            width=8,
            drill="queue",
        ),
    ):
        board.with_panel(panel)
