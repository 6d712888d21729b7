"""The rows for those who read the numbers: are they right, what are they, how fresh are they."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panels import GREEN, RED, RUNBOOK, YELLOW, chart, number, rows_by, see, shares
from queries import EVENTS_IN_RANGE, INSTANCE, QUEUE, TYPE, VALUE_IN_RANGE, quantiles, rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def is_it_all_right(board: Dashboard) -> None:
    """Single numbers; each is green, or says where to look."""
    unaccounted = f"sum(sqs_exporter_messages_received_total{{{QUEUE}}})"
    for metric in (
        "sqs_events_total",
        "sqs_exporter_messages_duplicate_total",
        "sqs_exporter_messages_rejected_total",
        "sqs_exporter_messages_released_total",
    ):
        unaccounted += f" - (sum({metric}{{{QUEUE}}}) or vector(0))"
    for panel in (
        number(
            "Alerts firing",
            "none",
            'count(ALERTS{alertname=~"SqsExporter.+",alertstate="firing"}) or vector(0)',
            "Alerts of this exporter that fire now, in all jobs. Anything but 0: open Alerts in Prometheus; each has "
            f"a section in the [runbook]({RUNBOOK}).",
            thresholds=[(None, GREEN), (1, RED)],
        ),
        number(
            "Ready",
            "none",
            f"min(min by (job, instance) (sqs_exporter_ready{{{QUEUE}}}) or min by (job, instance) (up{{{INSTANCE}}}))",
            see(
                "Whether every chosen exporter takes messages. Not ready: `GET /-/ready` on the exporter says why; "
                "messages wait in SQS meanwhile.",
                "SqsExporterNotReady",
                "SqsExporterDown",
            ),
            thresholds=[(None, RED), (1, GREEN)],
            mappings={"0": ("No", RED), "1": ("Yes", GREEN)},
        ),
        number(
            "Since last good receive",
            "s",
            f"time() - min(sqs_exporter_last_successful_receive_timestamp_seconds{{{QUEUE}}})",
            see(
                "Empty answers count, so this stays below the 20 s of a long poll (and a scrape interval) even on an "
                "idle queue. More: SQS can't be reached. Decades: no receive has ever succeeded.",
                "SqsExporterNeverReceived",
            ),
            thresholds=[(None, GREEN), (60, YELLOW), (300, RED)],
            decimals=0,
        ),
        number(
            "Messages waiting",
            "locale",
            f'sum(max by (queue) (sqs_queue_messages{{{QUEUE},state="visible"}}))',
            see(
                "Visible messages in the queue. Bad is a number that stays or grows: the totals below fall behind.",
                "SqsExporterBacklogGrowing",
                "SqsExporterStalled",
            ),
            thresholds=[(None, GREEN), (1000, YELLOW), (10000, RED)],
            decimals=0,
        ),
        number(
            "Lag (p95)",
            "s",
            quantiles("sqs_message_age_seconds", QUEUE)["p95"],
            see(
                "From sending to counting, for 95 of 100 messages of the last moments: how old the numbers below "
                "are. Idle: nothing was received.",
                "SqsExporterBacklogGrowing",
            ),
            thresholds=[(None, GREEN), (60, YELLOW), (600, RED)],
            no_value="idle",
        ),
        number(
            "Rejected share",
            "percentunit",
            f"max(instance_queue:sqs_exporter_messages_rejected:ratio_rate5m{{{QUEUE}}})",
            see(
                "Messages that are not events, of those received in 5 minutes. They are in no total. Bad is a jump: "
                "a producer's release. Idle: nothing was received.",
                "SqsExporterRejections",
            ),
            thresholds=[(None, GREEN), (0.01, YELLOW), (0.05, RED)],
            no_value="idle",
        ),
        number(
            "Unaccounted",
            "locale",
            unaccounted,
            "Received less counted, duplicate, rejected and released, since the ledger began. It is 0 in every "
            "scrape, across restarts. Anything else is a bug: keep the ledger and report it.",
            thresholds=[(None, RED), (0, GREEN), (1, RED)],
            decimals=0,
        ),
        number(
            "In dead-letter queues",
            "locale",
            f"sum(max by (dead_letter_queue) (sqs_dead_letter_queue_messages{{{QUEUE}}}))",
            see(
                "Messages given up after maxReceiveCount receives. More than 0: look at them before their retention "
                "ends. None: the queue has no dead-letter queue, or it may not be read.",
                "SqsExporterDeadLetterQueueNotEmpty",
            ),
            thresholds=[(None, GREEN), (1, RED)],
            decimals=0,
            no_value="none",
        ),
    ):
        board.with_panel(panel)


def what_the_business_sees(board: Dashboard) -> None:
    """Rates, totals and shares by type."""
    net = f"{rate('sqs_event_value_total', TYPE, 'type')} - {rate('sqs_event_negative_value_total', TYPE, 'type')}"
    for panel in (
        chart(
            "Events per second by type",
            "cps",
            {"{{type}}": rate("sqs_events_total", TYPE, "type")},
            see(
                "Events counted. Bad is a type that falls to 0 while others go on: its producer stopped or was "
                "renamed. All at 0: see the top row.",
                "SqsExporterTypeSilent",
            ),
            stacked=True,
        ),
        chart(
            "Net value per second by type",
            "short",
            {"{{type}}": net},
            "Sum of the events' values, negative ones subtracted. Below 0 more is given back than taken. Bad is a "
            "value that moves away from its events: a producer sends another unit or currency.",
            from_zero=False,
        ),
        number(
            "Events in range",
            "locale",
            f"sum({EVENTS_IN_RANGE})",
            "Events counted in the chosen range: exact, not extrapolated. What a new Prometheus finds at its first "
            "scrape counts as inside the range. Below 0: the ledger was lost or replaced in the range.",
            decimals=0,
            width=4,
        ),
        number(
            "Net value in range",
            "locale",
            f"sum({VALUE_IN_RANGE})",
            "Sum of the values of the events in the chosen range, negative ones subtracted: exact to a float's 15 "
            "digits. Compare it with the shop's own books; a difference that grows is a producer's.",
            decimals=2,
            width=4,
        ),
        number(
            "Events per second now",
            "cps",
            f"sum(instance_queue_type:sqs_events:rate5m{{{TYPE}}})",
            "Average of the last 5 minutes, from the same recording rule that alerts may use. Bad is a number "
            "unlike the same hour of yesterday.",
            decimals=2,
            width=4,
        ),
        number(
            "Value per second now",
            "short",
            f"sum(instance_queue_type:sqs_event_value:rate5m{{{TYPE}}})",
            "Values that are not negative, average of the last 5 minutes. Bad is 0 while events come: values are "
            "missing or zero at the producer.",
            decimals=2,
            width=4,
        ),
        number(
            "Net value per second now",
            "short",
            f"sum(instance_queue_type:sqs_event_net_value:rate5m{{{TYPE}}})",
            "As before, less the magnitudes of negative values. Bad is a gap to the number beside it that grows: "
            "more is given back than usual.",
            decimals=2,
            width=4,
        ),
        number(
            "Types seen",
            "locale",
            f"count(count by (type) (sqs_events_total{{{TYPE}}}))",
            see(
                "Event types that have a series, --events.types included. Near --events.max-types (200 by default) "
                "the next ones are counted together as `__other__`: look for ids inside type names.",
                "SqsExporterTypeOverflow",
            ),
            thresholds=[(None, GREEN), (150, YELLOW), (200, RED)],
            decimals=0,
            width=4,
        ),
        rows_by(
            "type",
            "Totals in range by type",
            {
                "Events": (EVENTS_IN_RANGE, "locale", 0),
                "Net value": (VALUE_IN_RANGE, "locale", 2),
                "Last event": (
                    f"1000 * max by (type) (sqs_event_last_occurred_timestamp_seconds{{{TYPE}}})",
                    "dateTimeFromNow",
                    0,
                ),
            },
            see(
                "Exact totals of the chosen range, and when each type last occurred. Bad is a type whose last event "
                "is older than it usually is.",
                "SqsExporterTypeSilent",
            ),
            sort_by="Events",
            width=14,
        ),
        shares(
            "Share of events by type",
            "locale",
            EVENTS_IN_RANGE,
            "{{type}}",
            "Of the events in the chosen range. Bad is a share that changes with a release. A large `__other__` "
            "means too many types: correct the producer or raise --events.max-types.",
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
            quantiles("sqs_event_age_seconds", QUEUE),
            "From `occurred_at` to the commit. Larger than the message age: producers send late, or their clocks are "
            "off. Gaps: nothing was counted.",
            width=8,
        ),
        chart(
            "Message age when counted",
            "s",
            quantiles("sqs_message_age_seconds", QUEUE),
            see(
                "From sending to SQS to the commit: the exporter's own lag. Bad is a line that climbs: it does not "
                "keep up, or has just come back from an outage.",
                "SqsExporterBacklogGrowing",
            ),
            width=8,
        ),
        chart(
            "Backlog by state",
            "locale",
            {"{{queue}} {{state}}": f"max by (queue, state) (sqs_queue_messages{{{QUEUE}}})"},
            see(
                "SQS's approximate numbers. Bad: `visible` grows (not received), or `in_flight` stays high without "
                "receives (another consumer holds them). Nothing here: sqs:GetQueueAttributes is missing.",
                "SqsExporterBacklogGrowing",
                "SqsExporterStalled",
            ),
            width=8,
        ),
    ):
        board.with_panel(panel)
