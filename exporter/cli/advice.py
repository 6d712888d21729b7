"""Warnings about settings that don't suit a queue; `check` and `run` give the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.settings.duration import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.settings import Settings
    from exporter.sqs import QueueAttributes

FEWEST_RECEIVES = 10
"""SQS can count a receive whose answer never arrived: a lower maxReceiveCount moves good messages away."""
SHORTEST_RETENTION_SECONDS = 86_400
SLOW_MESSAGES_A_SECOND = 1_000


def advice(attributes: QueueAttributes, settings: Settings) -> Iterator[str]:
    """Yield a sentence for each thing about the queue that may surprise somebody later."""
    name = attributes.name
    most = attributes.max_receive_count
    if most is not None and most < FEWEST_RECEIVES:
        yield (
            f"maxReceiveCount of queue {name} is {most}: SQS also counts receives whose answer never arrived, so good "
            f"messages are moved to the dead-letter queue uncounted; set it to {FEWEST_RECEIVES} or more"
        )
    if settings.sqs.on_invalid == "leave" and attributes.dead_letter_queue_arn is None and not attributes.assumed:
        yield (
            f"--sqs.on-invalid is leave, but queue {name} has no redrive policy, so run will take nothing from it: "
            f"give it one, or choose auto or delete"
        )
    visibility = attributes.visibility_timeout_seconds
    window = settings.ledger.window_seconds
    if window < 2 * visibility:
        yield (
            f"--ledger.window is {format_duration(window)}, less than twice the visibility timeout of queue {name} "
            f"({visibility} s): {format_duration(2 * visibility)} are used"
        )
    ids_a_message = 2 if settings.event_mapping(name).id_field else 1
    fastest = settings.ledger.max_ids / (2 * visibility) / ids_a_message
    if settings.ledger.url is None and fastest < SLOW_MESSAGES_A_SECOND:
        yield (
            f"--ledger.max-ids {settings.ledger.max_ids} over twice the visibility timeout of queue {name} "
            f"({visibility} s) allows {fastest:,.0f} messages a second: raise it, or lower the visibility timeout, for "
            f"more"
        )
    retention = attributes.retention_seconds
    if retention is not None and retention < SHORTEST_RETENTION_SECONDS:
        yield (
            f"queue {name} keeps messages for {format_duration(retention)}: what an outage of the exporter lets grow "
            f"older is lost uncounted; a day or more leaves time to mend it"
        )
