"""What is logged of the queues that housekeeping looks after: what changed, and each warning once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.errors import QueueUnavailableError
    from exporter.sqs import QueueAttributes, QueueState

log = logging.getLogger("exporter")


class QueueNews:
    """Logs what is found out of queues, where it is new. `advice` is as in `Housekeeping`."""

    def __init__(self, advice: Callable[[QueueAttributes], Iterable[str]]) -> None:
        self._advice = advice
        self._told: set[tuple[str, str]] = set()

    def found(self, before: QueueState, attributes: QueueAttributes) -> None:
        """Say what changed since `before`: the queue was found, its attributes changed, or it can be asked again."""
        known = before.attributes
        if attributes is not known:
            log.info(
                "queue found",
                extra={
                    "queue": before.name,
                    "arn": attributes.arn,
                    "visibility_timeout_seconds": attributes.visibility_timeout_seconds,
                    "retention_seconds": attributes.retention_seconds,
                    "dead_letter_queue": attributes.dead_letter_queue_arn,
                },
            )
            for sentence in self._advice(attributes):
                self._tell_once(before.name, sentence, sentence)
            created = known.created_seconds if known is not None else None
            if created is not None and attributes.created_seconds not in {None, created}:
                log.warning(
                    "queue was deleted and made again: what it held is lost, and its ARN is the same",
                    extra={"queue": before.name, "arn": attributes.arn},
                )
        if known is not None and (before.problem is not None or before.gone):
            log.info("queue can be asked again", extra={"queue": before.name})

    def failed(self, before: QueueState, problem: QueueUnavailableError) -> None:
        """Warn that the queue can't be asked now, unless it could not for the same reason before."""
        if before.problem is None or before.problem.reason != problem.reason:
            log.warning(
                "waiting for the queue",
                extra={"queue": before.name, "reason": problem.reason, "error": str(problem)},
            )

    def gone(self, name: str, problem: QueueUnavailableError) -> None:
        """Warn that the queue is not there any more."""
        log.warning("queue is gone", extra={"queue": name, "error": str(problem)})

    def attributes_denied(self, name: str) -> None:
        """Warn that the attributes may not be read, and what follows."""
        self._tell_once(
            name,
            "attributes",
            f'The attributes of queue "{name}" may not be read: grant sqs:GetQueueAttributes, or '
            f"its depth stays unknown and a visibility timeout of 30 s and a retention of 14 days are assumed, "
            "and no redrive policy: what is no event is deleted, unless --sqs.on-invalid is leave",
        )

    def attributes_read(self, name: str) -> None:
        """Let the next denial be told again."""
        self._told.discard((name, "attributes"))

    def dead_letters_failed(self, name: str, dead_letter_queue: str | None, reason: str) -> None:
        """Warn that the depth of the queue's dead-letter queue is not known."""
        self._tell_once(
            name,
            "dead letters",
            f'The depth of dead-letter queue "{dead_letter_queue}" is left out ({reason}): grant '
            f"sqs:GetQueueUrl and sqs:GetQueueAttributes on it to see it",
        )

    def dead_letters_read(self, name: str) -> None:
        """Let the next failure be told again."""
        self._told.discard((name, "dead letters"))

    def _tell_once(self, name: str, subject: str, sentence: str) -> None:
        if (name, subject) not in self._told:
            self._told.add((name, subject))
            log.warning(sentence, extra={"queue": name})
