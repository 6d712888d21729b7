"""SQS's quota of messages in flight. Where a queue has reached it, a long poll gets empty answers and no error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.sqs import QueueDepth

MAX_IN_FLIGHT = 120_000
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""
NEAR = 0.95
"""SQS's numbers are approximate: from this part of the quota on it counts as reached."""


def reached(depth: QueueDepth | None) -> str | None:
    """Return a sentence where so many are in flight that the messages which wait are not handed out, else None."""
    if depth is None or not depth.visible or not depth.in_flight or depth.in_flight < NEAR * MAX_IN_FLIGHT:
        return None
    return (
        f"SQS hands out no more messages, because about {depth.in_flight} are in flight and its quota is "
        f"{MAX_IN_FLIGHT}: wait for them to come back, or look for a consumer that receives and never deletes"
    )
